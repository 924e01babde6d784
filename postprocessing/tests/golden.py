"""Golden pictures: what each step makes of one input, kept as files. `python -m postprocessing.tests.golden` draws
them again.

A change of a golden picture is a change of what customers get: look at both before committing one.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from postprocessing.pipeline import render
from postprocessing.recipe import Recipe
from postprocessing.superres import SuperResConfig

FOLDER = Path(__file__).parent / "golden"
# Name: block, largest mean difference and largest single difference allowed (levels of 255). Steps of integer
# arithmetic are exact up to rounding; networks, the denoiser and the text renderer differ between builds of their
# libraries.
CASES: dict[str, tuple[dict, float, int]] = {
    "brightness": ({"brightness": 0.15}, 0.0, 0),
    "contrast": ({"contrast": 1.5}, 0.0, 0),
    "white_balance": ({"white_balance": "auto"}, 0.05, 1),
    "denoise": ({"denoise": 0.8}, 0.5, 16),
    "upscale": ({"upscale": {"scale": 2}}, 0.2, 3),
    "tone": ({"tone": [[0, 0.05], [0.3, 0.2], [0.7, 0.85], [1, 1]]}, 0.05, 1),
    "saturation": ({"saturation": 1.6}, 0.05, 1),
    "sharpen": ({"sharpen": 1.2}, 0.05, 2),
    "white_background": ({"white_background": True}, 0.3, 24),
    "text": (
        {"watermark": {"kind": "text", "text": "图 Gx", "size": 0.3, "outline": 0.08, "opacity": 0.8, "rotation": 20}},
        0.5,
        96,
    ),
    "qr": ({"watermark": {"kind": "qr", "text": "gx", "scale": 0.9, "position": "center"}}, 0.0, 0),
}  # fmt: skip


def load(name: str) -> np.ndarray:
    with Image.open(FOLDER / f"{name}.png") as file:
        return np.array(file.convert("RGB"))


def made(name: str) -> np.ndarray:
    source = load("product" if name == "white_background" else "input")
    return render([source], Recipe.from_json(CASES[name][0]), SuperResConfig())[0]


def _draw() -> None:
    from postprocessing.tests.pictures import scene
    from postprocessing.tests.test_steps import product_shot

    FOLDER.mkdir(exist_ok=True)
    Image.fromarray(scene(96, 128)).save(FOLDER / "input.png", optimize=True)
    Image.fromarray(product_shot()[0][::2, ::2]).save(FOLDER / "product.png", optimize=True)
    for name in CASES:
        Image.fromarray(made(name)).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    _draw()
