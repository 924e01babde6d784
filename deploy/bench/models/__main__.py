"""The shipped models by each runtime on this machine: `make bench-models`.

Single modules at 1 to 16 rows, in one process and in turns; whole pictures by the engine, each runtime in a process of
its own. Writes docs/benchmarks/models.json, models.md and a sheet of pictures.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from deploy.bench.models.comparison import as_json, compare, orders, table
from deploy.bench.models.parts import PASSES, ROWS, rates
from deploy.bench.models.pictures import PictureCase
from deploy.bench.product import ROOT
from deploy.commands import ALLOCATOR
from workers.engine.models.conversion import convert_to_int8
from workers.engine.spec import ModelSpec

RESULTS: Final = ROOT / "docs" / "benchmarks"
SHIPPED: Final = ROOT / "fixtures" / "models"
PROMPTS: Final = ROOT / "fixtures" / "seed" / "calibration_prompts.txt"
TURBO: Final = {"adapter": "../lora/turbo.safetensors"}
CASES: Final[Mapping[str, tuple[dict[str, Any], int, float, str]]] = {
    "mini, 20 steps": ({}, 20, 4.0, "dpm++"),
    "mini-turbo, 4 steps": (TURBO, 4, 1.0, "lcm"),
    "mini-turbo, 1 step": (TURBO, 1, 1.0, "lcm"),
}
THREADS: Final = sorted({1, len(os.sched_getaffinity(0))})


def in_8_bits(models: Path) -> None:
    """Graphs of 8 bits for the models of the cases, in a copy of what ships."""
    prompts = PROMPTS.read_text("utf-8").splitlines()
    for options in ({}, TURBO):
        spec = ModelSpec("mini", "1", "sd15", str(models / "mini"), options=options)
        print(convert_to_int8(spec, prompts, threads=max(THREADS)).line(), flush=True)


def measured_parts(model: str, threads: int, rows: list[int], passes: int) -> dict[str, Any]:
    """Passes of single modules, in a process with the allocator of the product's GPU worker."""
    case: dict[str, Any] = {"name": "mini", "family": "sd15", "source": model, "options": {}}
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
                    if name not in by_runtime:
                        cells.append("")
                        continue
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
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder, "mini"))
        shutil.copytree(SHIPPED, folder, dirs_exist_ok=True)
        in_8_bits(Path(folder))
        results["parts"] = {
            str(threads): measured_parts(model, threads, arguments.rows, arguments.passes)
            for threads in arguments.threads
        }
        results["pictures"] = {}
        for name, (options, steps, cfg, sampler) in CASES.items():
            case = PictureCase("mini", "sd15", model, steps, cfg, sampler, [order.prompt for order in wanted], options)
            sheet = RESULTS / "models.webp" if name == next(iter(CASES)) else None
            results["pictures"][name] = compare(case, wanted, sheet)
            results["pictures"][name]["case"]["source"] = "mini"
            print(name, *table(results["pictures"][name]), sep="\n", flush=True)
    (RESULTS / "models.json").write_text(as_json(results))
    (RESULTS / "models.md").write_text(page(results))
    print(f"written to {RESULTS.relative_to(ROOT)}/models.json, models.md and models.webp")


if __name__ == "__main__":
    main()
