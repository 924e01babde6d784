"""Images per second and peak memory of each step, one by one and in a batch, beside plain OpenCV or Pillow calls for
the same work.

    python -m postprocessing.bench --sizes 512 1024 --superres fixtures/models/superres

Each figure comes from a process of its own, so that peak memory is that step's; it says how much the peak rose over
the loaded program and its input. OpenCV and the networks work on one thread; the files of a batch are encoded side by
side on up to four.
"""

import argparse
import ctypes
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from postprocessing.arrays import Picture
from postprocessing.pipeline import process, render
from postprocessing.recipe import Recipe
from postprocessing.superres import SuperResConfig

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "benchmarks" / "postprocess.json"
BATCH = 4
_SECONDS = 1.0  # each measurement runs at least as long, and at least once; libraries were warmed on a small picture
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


def sample(side: int, seed: int) -> Picture:
    """A picture with smooth and busy parts (uint8 RGB)."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    grain = cv2.GaussianBlur(random.normal(0, 30, (side, side)).astype(np.float32), (0, 0), 1.0)
    grain[:, : side // 2] = 0
    return np.clip(smooth + grain[:, :, None], 0, 255).astype(np.uint8)


def _plain_tone(image: Picture) -> object:
    return ImageEnhance.Sharpness(ImageEnhance.Color(Image.fromarray(image)).enhance(1.2)).enhance(1.4)


def _plain_text(image: Picture) -> object:
    canvas = Image.fromarray(image).convert("RGBA")
    layer = Image.new("RGBA", canvas.size)
    ImageDraw.Draw(layer).text((10, 10), "ImageGenX", (255, 255, 255, 128), ImageFont.load_default(image.shape[0] / 20))
    return Image.alpha_composite(canvas, layer).convert("RGB")


def plain(step: str) -> Callable[[Picture], object] | None:
    """The same kind of work by direct calls, as a script would do it; None where there is no such call."""
    if step in ("webp", "avif", "png", "jpeg"):
        quality: dict[str, dict] = {
            "webp": {"quality": 85, "method": 4},
            "avif": {"quality": 65, "speed": 5, "advanced": {"tune": "ssim"}},
            "jpeg": {"quality": 90},
        }
        options: dict = quality.get(step, {})
        return lambda image: Image.fromarray(image).save(io.BytesIO(), step.upper(), **options)
    calls: dict[str, Callable[[Picture], object]] = {
        "basic": lambda image: cv2.convertScaleAbs(image, alpha=1.1, beta=0.0),
        "denoise": lambda image: cv2.fastNlMeansDenoisingColored(image, None, 3, 3, 7, 15),
        "tone": _plain_tone,
        "text mark": _plain_text,
        "upscale 2x": lambda image: cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_LANCZOS4),
        "upscale 4x": lambda image: cv2.resize(image, None, fx=4, fy=4, interpolation=cv2.INTER_LANCZOS4),
    }
    return calls.get(step)


def measure(step: str, side: int, way: str, superres: str) -> dict[str, float]:
    """`way`: one, batch or plain. The answer: images per second and MB by which the peak of memory rose."""
    cv2.setNumThreads(1)
    config = SuperResConfig(Path(superres), threads=1)
    recipe = Recipe.from_json(STEPS[step])
    pictures = [sample(side, seed) for seed in range(BATCH)]
    finish = step in ("webp", "avif", "png", "jpeg")

    def ours(chosen: list[Picture]) -> None:
        if finish:
            process(chosen, recipe, config=config)
        else:
            render(chosen, recipe, config)

    direct = plain(step)
    runs: dict[str, Callable[[], object]] = {
        "one": lambda: list(map(ours, ([picture] for picture in pictures))),
        "batch": lambda: ours(pictures),
        "plain": lambda: [direct(picture) for picture in pictures] if direct else None,
    }
    ours([sample(160, 0)])  # loads fonts, networks and libraries
    ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system, so that it counts when it is taken again
    before = _memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
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
        "postprocessing.bench",
        "--measure",
        step,
        str(side),
        way,
        "--superres",
        superres,
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def report(sizes: list[int], superres: str, write: Callable[[str], object]) -> list[dict[str, Any]]:
    """The table, row by row as it is measured; the same rows as values."""
    write(f"images/s, and MB that the peak of memory rose; batches of {BATCH}")
    write(f"{'step':12} {'size':>5}" + "".join(f"{name:>11}" for name in _COLUMNS))
    rows = []
    for step in STEPS:
        if step.startswith("upscale") and not (Path(superres) / f"x{step.split()[1][0]}.onnx").is_file():
            write(f"{step:12} no network in {superres}")
            continue
        for side in sizes:
            if step.startswith("upscale") and side > _LARGEST_ENLARGED:
                continue  # minutes on a CPU; the memory of 1024 to 4096 is a test's matter
            row = _row(step, side, superres)
            rows.append({"step": step, "size": side, **row})
            cells = "".join(f"{'-' if value is None else value:>11}" for value in row.values())
            write(f"{step:12} {side:>5}{cells}")
    return rows


_COLUMNS = ("one by one", "batch", "plain", "% of plain", "MB one", "MB batch", "MB plain")


def _row(step: str, side: int, superres: str) -> dict[str, float | None]:
    """`_COLUMNS` of one step at one size; None where there is no plain call."""
    one, batch = (in_process(step, side, way, superres) for way in ("one", "batch"))
    direct = in_process(step, side, "plain", superres) if plain(step) else None
    values = (
        round(one["rate"], 2),
        round(batch["rate"], 2),
        round(direct["rate"], 2) if direct else None,
        round(100 * batch["rate"] / direct["rate"]) if direct else None,
        round(one["memory"]),
        round(batch["memory"]),
        round(direct["memory"]) if direct else None,
    )
    return dict(zip(_COLUMNS, values, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--superres", default="fixtures/models/superres", help="folder of x2.onnx and x4.onnx")
    parser.add_argument("--measure", nargs=3, metavar=("STEP", "SIZE", "WAY"), help="one figure, as JSON")
    chosen = parser.parse_args()
    if chosen.measure:
        step, side, way = chosen.measure
        print(json.dumps(measure(step, int(side), way, chosen.superres)))
    else:
        rows = report(chosen.sizes, chosen.superres, print)
        RESULTS.write_text(json.dumps({"batch": BATCH, "rows": rows}, indent=1) + "\n")
        print(f"written to {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
