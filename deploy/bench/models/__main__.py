"""The shipped models by each runtime on this machine: `make bench-models`.

Single modules at 1 to 16 rows, in one process and in turns; whole pictures by the engine, each runtime in a process of
its own. Writes docs/benchmarks/models.json, models.md and a sheet of pictures.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Final

from deploy.bench.models.comparison import as_json, compare, orders, table
from deploy.bench.models.parts import PASSES, ROWS, rates
from deploy.bench.models.pictures import Case
from deploy.bench.product import ROOT
from deploy.commands import ALLOCATOR

RESULTS: Final = ROOT / "docs" / "benchmarks"
MODEL: Final = str(ROOT / "fixtures" / "models" / "mini")
TURBO: Final = {"adapter": "../lora/turbo.safetensors"}
CASES: Final[Mapping[str, tuple[dict[str, Any], int, float, str]]] = {
    "mini, 20 steps": ({}, 20, 4.0, "dpm++"),
    "mini-turbo, 4 steps": (TURBO, 4, 1.0, "lcm"),
    "mini-turbo, 1 step": (TURBO, 1, 1.0, "lcm"),
}
THREADS: Final = sorted({1, len(os.sched_getaffinity(0))})


def measured_parts(threads: int, rows: list[int], passes: int) -> dict[str, Any]:
    """Passes of single modules, in a process with the allocator of the product's GPU worker."""
    case = {"name": "mini", "family": "sd15", "source": MODEL, "options": {}}
    case |= {"threads": threads, "rows": rows, "passes": passes}
    command = [sys.executable, "-m", "deploy.bench.models.parts", json.dumps(case)]
    env = os.environ | ALLOCATOR | {"OMP_NUM_THREADS": str(threads)}
    answer = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"the passes failed:\n{answer.stderr[-3000:]}")
    return dict(json.loads(answer.stdout.splitlines()[-1]))


def page(results: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Runtimes of the shipped models",
        "",
        "`make bench-models` wrote this page from [models.json](models.json). Pictures of 256x256, float32,",
        f"the allocator of the GPU worker; {results['machine']}.",
        "Times are those of the quickest of several passes, in turns.",
        "",
        "How it works and how it is chosen: [engine](../engine.md#runtimes).",
    ]
    for threads, found in results["parts"].items():
        lines += ["", f"## Single modules, {threads} threads", ""]
        names = list(next(iter(next(iter(found.values())).values())))
        heads = " | ".join(f"{name}: ms (CPU ms)" for name in names)
        lines += [f"| module | rows | {heads} |", "|---|---|" + "---|" * len(names)]
        quicker = {(part, rows): one for part, rows, one in rates(found)}
        for part, by_rows in found.items():
            for rows, by_runtime in by_rows.items():
                cells = []
                for name in names:
                    one, times = by_runtime[name], quicker[part, int(rows)][name]
                    cells.append(f"{one['ms']} ({one['cpu_ms']}){'' if name == names[0] else f', **{times}**'}")
                lines.append(f"| {part} | {rows} | {' | '.join(cells)} |")
    lines += ["", "Bold: eager's CPU time over this one's. Torch's threads spin while they wait, which counts."]
    for name, found in results["pictures"].items():
        case = found["case"]
        lines += ["", f"## {name}: {case['prompts']} whole pictures, {case['threads']} threads", "", *table(found)]
    lines += [
        "",
        "Judge: share of pictures with the subject, colour and background that were asked for. PSNR and SSIM against",
        "eager; 120 dB stands for less than a millionth. Memory: of the process at the end.",
        "Pictures side by side: [models.webp](models.webp).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--passes", type=int, default=PASSES)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--threads", type=int, nargs="+", default=THREADS, help="of the modules' passes")
    arguments = parser.parse_args()
    wanted = orders(arguments.pictures)
    results: dict[str, Any] = {"machine": f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start"}
    results["parts"] = {
        str(threads): measured_parts(threads, arguments.rows, arguments.passes) for threads in arguments.threads
    }
    results["pictures"] = {}
    for name, (options, steps, cfg, sampler) in CASES.items():
        case = Case("mini", "sd15", MODEL, steps, cfg, sampler, [order.prompt for order in wanted], options)
        sheet = RESULTS / "models.webp" if name == next(iter(CASES)) else None
        results["pictures"][name] = compare(case, wanted, sheet)
        print(name, *table(results["pictures"][name]), sep="\n", flush=True)
    (RESULTS / "models.json").write_text(as_json(results))
    (RESULTS / "models.md").write_text(page(results))
    print(f"written to {RESULTS.relative_to(ROOT)}/models.json, models.md and models.webp")


if __name__ == "__main__":
    main()
