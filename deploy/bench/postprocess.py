"""Images per second and peak memory of each step, one by one and in a batch, beside plain calls of OpenCV, Pillow and
ONNX Runtime for the same work (deploy/bench/plain_pictures.py).

    python -m deploy.bench.postprocess --sizes 512 1024 --superres fixtures/models/superres

Each row is stored in docs/benchmarks/postprocess.json as soon as it is measured; `--resume` measures only what is
not there, so that an interruption loses one row. `--steps` chooses some.

Each figure comes from a process of its own, so that peak memory is that step's; it says how much the peak rose over
the loaded program and its input. OpenCV and the networks work on one thread; the files of a batch are encoded side by
side on up to four.
"""

import argparse
import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deploy.bench.plain_pictures import plain
from postprocessing.arrays import Picture
from postprocessing.pipeline import process, render
from postprocessing.recipe import Recipe
from postprocessing.superres import SuperResConfig

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "benchmarks" / "postprocess.json"
FORMATS = ("webp", "avif", "png", "jpeg")
BATCH = 4
_ROUNDS = 2
_SECONDS = 1.0  # least duration of a measurement, of at least one call, after a warm-up with a small picture
_LARGEST_ENLARGED = 512  # pixels a side
STEPS: dict[str, dict] = {
    "basic": {"brightness": 0.05, "contrast": 1.1, "white_balance": "auto"},
    "denoise": {"denoise": 0.5},
    "tone": {"tone": [[0, 0], [0.5, 0.55], [1, 1]], "saturation": 1.2, "sharpen": 0.4},
    "background": {"white_background": True},
    "text mark": {"watermark": {"kind": "text", "text": "ImageGenX 图"}},
    "qr mark": {"watermark": {"kind": "qr", "text": "https://example.com/i/42"}},
    "upscale 2x": {"upscale": {"scale": 2, "late": False}},
    "upscale 4x": {"upscale": {"scale": 4, "late": False}},
    "webp": {"format": "webp"},
    "avif": {"format": "avif"},
    "png": {"format": "png"},
    "jpeg": {"format": "jpeg"},
}


_HEAD = """# Post-processing, step by step

Written by `make bench-postprocess`: images/s (the best of {rounds} rounds) and the MB by which the peak of memory rose,
each from a process of its own. "one by one" and "batch" ({batch} pictures) are the product's steps, "plain" direct
calls for the same work (`plain_pictures.py`), "% of plain" the better of the two beside it. One thread; files of
a batch are encoded side by side on all cores. What follows from it stands in [postprocessing](../postprocessing.md).

"""


def product(side: int, seed: int) -> Picture:
    """An object on a soft, nearly plain background (uint8 RGB)."""
    light = np.linspace(215, 235, side)[None, :, None] + np.random.default_rng(seed).normal(0, 2, (side, side, 1))
    picture = np.repeat(light, 3, axis=2).clip(0, 255).astype(np.uint8)
    inside = slice(side // 4, side * 3 // 4)
    picture[inside, inside] = sample(side, seed)[inside, inside] // 2
    return picture


def sample(side: int, seed: int) -> Picture:
    """A picture with smooth and detailed parts (uint8 RGB)."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    grain = cv2.GaussianBlur(random.normal(0, 30, (side, side)).astype(np.float32), (0, 0), 1.0)
    grain[:, : side // 2] = 0
    return np.clip(smooth + grain[:, :, None], 0, 255).astype(np.uint8)


def measure(step: str, side: int, way: str, superres: str) -> dict[str, float]:
    """`way`: one, batch or plain. Returns images per second, and the increase of peak memory in MB."""
    cv2.setNumThreads(1)
    config = SuperResConfig(Path(superres), threads=1)
    recipe = Recipe.from_json(STEPS[step])
    pictures = [(product if step == "background" else sample)(side, seed) for seed in range(BATCH)]

    def ours(chosen: list[Picture]) -> None:
        if step in FORMATS:
            process(chosen, recipe, config=config)
        else:
            render(chosen, recipe, config)

    direct = plain(step, superres)
    runs: dict[str, Callable[[], object]] = {
        "one": lambda: list(map(ours, ([picture] for picture in pictures))),
        "batch": lambda: ours(pictures),
        "plain": lambda: [direct(picture) for picture in pictures],
    }
    for warm in (ours, lambda chosen: direct(chosen[0])):
        warm([sample(160, 0)])  # loads fonts, networks and libraries
    ctypes.CDLL(None).malloc_trim(0)  # return freed memory to the system, so that it counts when it is allocated again
    before = _memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    started, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - started < _SECONDS:
        runs[way]()
        count += BATCH
    rate = count / (time.perf_counter() - started)
    return {"rate": rate, "memory": _memory_mb("VmHWM") - before}


def _memory_mb(name: str) -> float:
    """A figure of this process from Linux: VmRSS is what it holds now, VmHWM the most it held since its peak was
    reset.
    """
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def in_process(step: str, side: int, way: str, superres: str) -> dict[str, float]:
    arguments = [
        sys.executable,
        "-m",
        "deploy.bench.postprocess",
        "--measure",
        step,
        str(side),
        way,
        "--superres",
        superres,
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def report(chosen: Mapping[str, Sequence[int]], superres: str, write: Callable[[str], object]) -> None:
    """Measure each step at its sizes; existing rows are replaced."""
    write(f"images/s, and MB that the peak of memory rose; batches of {BATCH}")
    write(f"{'step':12} {'size':>5}" + "".join(f"{name:>11}" for name in _COLUMNS))
    for step, sizes in chosen.items():
        for side in sizes:
            row = {"step": step, "size": side, **_row(step, side, superres)}
            _store(row)
            write(f"{step:12} {side:>5}" + "".join(f"{row[name]:>11}" for name in _COLUMNS))


_COLUMNS = ("one by one", "batch", "plain", "% of plain", "MB one", "MB batch", "MB plain")


def _row(step: str, side: int, superres: str) -> dict[str, float]:
    """`_COLUMNS` of one step at one size; images/s are the best of `_ROUNDS` rounds, the ways taking turns."""
    ways: dict[str, dict[str, float]] = {}
    for _ in range(_ROUNDS):
        for way in ("one", "batch", "plain"):
            found = in_process(step, side, way, superres)
            ways[way] = max(ways.get(way, found), found, key=lambda figure: figure["rate"])
    rates = [ways[way]["rate"] for way in ("one", "batch", "plain")]
    memory = [round(ways[way]["memory"]) for way in ("one", "batch", "plain")]
    rounded = [round(rate, 2) for rate in rates]
    return dict(zip(_COLUMNS, [*rounded, round(100 * max(rates[:2]) / rates[2]), *memory], strict=True))


def stored_rows() -> list[dict[str, Any]]:
    """The rows of the results file."""
    return json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []


def _store(row: dict[str, Any]) -> None:
    """Write the row to the results file, sorted by step and size, and update the table."""
    others = [old for old in stored_rows() if (old["step"], old["size"]) != (row["step"], row["size"])]
    order = list(STEPS)
    rows = sorted([*others, row], key=lambda one: (order.index(one["step"]), one["size"]))
    RESULTS.write_text(json.dumps({"batch": BATCH, "rows": rows}, indent=1) + "\n")
    lines = ["| step | size | " + " | ".join(_COLUMNS) + " |", "|---" * (len(_COLUMNS) + 2) + "|"]
    lines += [
        f"| {one['step']} | {one['size']} | " + " | ".join(str(one[name]) for name in _COLUMNS) + " |" for one in rows
    ]
    RESULTS.with_suffix(".md").write_text(_HEAD.format(batch=BATCH, rounds=_ROUNDS) + "\n".join(lines) + "\n")


def _chosen(steps: Sequence[str], sizes: Sequence[int], *, resume: bool) -> dict[str, list[int]]:
    """The sizes to measure, by step."""
    there = {(row["step"], row["size"]) for row in stored_rows()} if resume else set()
    largest = {step: _LARGEST_ENLARGED if step.startswith("upscale") else max(sizes) for step in steps}
    return {step: [side for side in sizes if side <= largest[step] and (step, side) not in there] for step in steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--resume", action="store_true", help="measure only what the results have not")
    parser.add_argument("--superres", default="fixtures/models/superres", help="folder of x2.onnx and x4.onnx")
    parser.add_argument("--measure", nargs=3, metavar=("STEP", "SIZE", "WAY"), help="one figure, as JSON")
    asked = parser.parse_args()
    if asked.measure:
        step, side, way = asked.measure
        print(json.dumps(measure(step, int(side), way, asked.superres)))
    else:
        report(_chosen(asked.steps, asked.sizes, resume=asked.resume), asked.superres, partial(print, flush=True))


if __name__ == "__main__":
    main()
