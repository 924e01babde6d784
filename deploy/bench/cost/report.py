"""The tables of `make bench-cost`, and the counts that it compares with."""

import json
from collections.abc import Mapping
from typing import Any, Final

from deploy.bench.product import ROOT

RESULTS: Final = ROOT / "docs" / "benchmarks" / "cost.json"
COUNTS: Final = ROOT / "docs" / "benchmarks" / "cost-counts.json"
# Postgres tells the others up to ten seconds late, and calls of scripts follow the clock where the machine is slow.
EXACT: Final = ("Redis commands", "Redis connections", "events", "WAL bytes", "writing transactions")
TOLERANCE: Final = 1.25  # of a count a picture; how many tasks share a claim makes them vary


def name_of(case: tuple[str, int, int]) -> str:
    """mini-turbo-1-256: model, steps, side in pixels."""
    return "-".join(map(str, case))


def write(results: Mapping[str, Any], whole: bool) -> None:
    """Print the tables; keep a whole run as JSON."""
    for part in ("product", "free"):
        for name, row in results[part].items():
            if "cpu_ms" in row:
                _print_case(f"{part} {name}", row, results.get("bare", {}).get(name, []) if part == "product" else [])
    found = results["product"]["urgent"]
    print(f"\nP0 beside 40 waiting P2 tasks: {found['beside_s']} s, alone {found['alone_s']} s; {found['ratio']}")
    _print_processes("idle, CPU ms/s", results["product"]["idle_cpu_ms_per_s"])
    _print_processes("memory, MB", results["product"]["memory_mb"])
    if whole:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        print(f"\nwritten to {RESULTS.relative_to(ROOT)}")


def _print_case(title: str, row: Mapping[str, Any], bare: list[dict[str, Any]]) -> None:
    rate, cpu = row["images_per_s"], row["cpu_ms"]
    print(f"\n{title}: {rate:.2f} pictures/s")
    _print_processes("CPU ms a picture", cpu)
    outside = sum(value for name, value in cpu.items() if name != "gpu-worker")
    print(f"  {'outside the GPU worker':<26}{outside:>10.1f}")
    print("  " + ", ".join(f"{name} {value:.1f}" for name, value in row["counts"].items()))
    for one in bare:
        how = ", ".join(f"{name} {one[name]}" for name in ("batch", "threads", "allocator", "layout", "runtime"))
        share = rate / one["images_per_s"]
        print(f"  bare ({how}): {one['images_per_s']:.2f}/s, {one['cpu_ms']:.0f} ms; product {share:.2f} of it")


def _print_processes(title: str, values: Mapping[str, float]) -> None:
    print(f"  {title:<26}{sum(values.values()):>10.1f}")
    for name, value in sorted(values.items(), key=lambda item: -item[1]):
        print(f"    {name:<24}{value:>10.1f}")


def compare_counts(counts: Mapping[str, float], keep: bool) -> int:
    """Print counts a picture beside the kept ones. Answers 1 where one has grown beyond the tolerance."""
    counts = {name: counts[name] for name in EXACT}
    if keep:
        COUNTS.write_text(json.dumps(dict(counts), indent=1) + "\n")
        return 0
    kept = json.loads(COUNTS.read_text())
    grown = [name for name, value in counts.items() if value > max(kept[name] * TOLERANCE, kept[name] + 1)]
    print(f"\n{'a picture':<24}{'kept':>10}{'now':>10}")
    for name, value in counts.items():
        print(f"{name:<24}{kept[name]:>10.1f}{value:>10.1f}{'  GROWN' if name in grown else ''}")
    return 1 if grown else 0
