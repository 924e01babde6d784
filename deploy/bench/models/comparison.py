"""One model by each runtime: whole pictures, memory, likeness, and the judge's verdict on the shipped models."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from deploy.bench.models.likeness import psnr, ssim
from deploy.bench.models.pictures import PictureCase, run_case
from deploy.bench.models.sheet import save_sheet
from deploy.bench.models.variants import EAGER, VARIANTS, here
from fixtures.mini import evaluate
from fixtures.mini import judge as judges

JUDGE: Final = Path("fixtures/models/judge.safetensors")
SHIPPED: Final = ("mini", "mini-turbo")


def orders(count: int) -> list[evaluate.Order]:
    """What the shipped models are asked for, in both languages, with what must be seen."""
    return evaluate.orders(evaluate.Part(count, seed=7))


def compare(case: PictureCase, wanted: Sequence[evaluate.Order] | None, sheet: Path | None) -> dict[str, Any]:
    """Figures by runtime. `wanted`: of a shipped model, for the judge. Each runtime is run twice, in turns, and the
    quicker run counts."""
    names = [name for name in here() if not VARIANTS[name].only_parts]
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(2):
            for name in names:
                options = {**case.options, **VARIANTS[name].options}
                runs[name].append(run_case(replace(case, options=options), Path(folder, f"{name}.npy")))
        pictures = {name: np.load(Path(folder, f"{name}.npy")) for name in names}
    if sheet is not None:
        save_sheet(pictures, sheet)
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        best = min(runs[name], key=lambda run: run["cpu_ms"])
        found[name] = {**best, **_likeness(pictures[name], pictures[EAGER])}
        if wanted is not None:
            found[name]["judge"] = verdict(pictures[name], wanted)
    return {"case": {**asdict(case), "prompts": len(case.prompts)}, "runtimes": found}


def verdict(pictures: np.ndarray, wanted: Sequence[evaluate.Order]) -> float | None:
    """The share of pictures whose subject, colour and background are those asked for."""
    seen = judges.judge(judges.load(JUDGE), [(255 * one).round().astype(np.uint8) for one in pictures])
    return evaluate.score(list(wanted), seen)["core"]


def _likeness(pictures: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    pairs = list(zip(pictures, reference, strict=True))
    noise, alike = [psnr(*pair) for pair in pairs], [ssim(*pair) for pair in pairs]
    return {
        "psnr_min": round(min(noise), 1), "psnr_median": round(float(np.median(noise)), 1),
        "ssim_min": round(min(alike), 4),
    }  # fmt: skip


def table(results: Mapping[str, Any]) -> list[str]:
    """The figures of one comparison as lines of Markdown."""
    lines = [
        "| runtime | pictures/s | CPU ms a picture | of eager | memory MB | PSNR least / median | SSIM least | judge |",
        "|---|---|---|---|---|---|---|---|",
    ]
    eager = results["runtimes"][EAGER]["cpu_ms"]
    for name, one in results["runtimes"].items():
        judge = "" if one.get("judge") is None else f"{one['judge']:.3f}"
        lines.append(
            f"| {name} | {one['pictures_per_s']:.2f} | {one['cpu_ms']:.0f} | {one['cpu_ms'] / eager:.2f} | "
            f"{one['memory_mb']:.0f} | {one['psnr_min']} / {one['psnr_median']} | {one['ssim_min']} | {judge} |"
        )
    return lines


def as_json(results: Any) -> str:
    return json.dumps(results, indent=1, ensure_ascii=False) + "\n"
