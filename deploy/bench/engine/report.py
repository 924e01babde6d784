"""The results of a run as files: engine.json, engine.md and engine.svg."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deploy.bench.plot import line_plot


def write(results: dict[str, Any], folder: Path) -> None:
    """engine.json, engine.md and engine.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "engine.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "engine.md").write_text(table(results))
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in results["runs"]:
        lines.setdefault(row["server"], []).append((row["load"], row["p95"]))
    plot = line_plot(lines, title="95th percentile of the time to a picture", across="load", up="s")
    (folder / "engine.svg").write_text(plot)


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    names = ("images_per_second", "p50", "p95", "p99", "p0_p50", "p0_p95", "mean_rows")
    bare, alone = results["offline"], results["p0_unloaded"]
    lines = [
        "# The engine beside other ways of serving",
        "",
        f"Made by `make bench-engine`: {results['tasks']} tasks at each load, {results['side']} pixels, "
        f"model {results['model']}, device {results['device']}, {results['clock']} time. Load 1 is what one at a time "
        f"can do ({results['one_at_a_time_per_second']} images/s). Seconds; rows of a forward pass, two a task.",
        "",
        "![p95 over load](engine.svg)",
        "",
        "| load | server | images/s | p50 | p95 | p99 | P0 p50 | P0 p95 | mean rows |",
        "|---|---|---|---|---|---|---|---|---|",
        *(f"| {row['load']} | {row['server']} | " + " | ".join(str(row[name]) for name in names) + " |"
          for row in results["runs"]),
        "",
        "| at load 0.95 | measured | goal | met |",
        "|---|---|---|---|",
        *(f"| {row['goal']} | {row['measured']} | {row['bound']} | {'yes' if row['met'] else 'no'} |"
          for row in results["goals"]),
        "",
        f"P0 alone in the engine: p50 {alone['p50']} s, p95 {alone['p95']} s ({alone['tasks']} tasks). Offline, "
        f"{bare['batch']} alike tasks at a time: bare pipeline {bare['bare']} images/s, engine {bare['engine']}.",
        "",
        "Engine overhead per step without the model (ms of CPU):",
        "",
        "| samples | euler | mix of samplers |",
        "|---|---|---|",
        *(f"| {row['samples']} | {row['euler_ms']} | {row['mix_ms']} |" for row in results["overhead"]),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"
