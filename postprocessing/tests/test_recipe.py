import json
import subprocess
import sys
from pathlib import Path

import pytest

from postprocessing.recipe import IDENTITY, Recipe, RecipeError

BLOCKS = json.loads((Path(__file__).parent / "blocks.json").read_text())


@pytest.mark.parametrize("block", BLOCKS["accepted"], ids=str)
def test_accepted(block):
    Recipe.from_json(block)


@pytest.mark.parametrize("case", BLOCKS["refused"], ids=lambda case: str(case["block"])[:60])
def test_refused_with_every_fault(case):
    with pytest.raises(RecipeError) as caught:
        Recipe.from_json(case["block"])
    assert sorted((fault.field, fault.code) for fault in caught.value.faults) == sorted(map(tuple, case["faults"]))
    assert all(fault.message for fault in caught.value.faults)


def test_no_block_is_the_default_recipe():
    assert Recipe.from_json({}) == Recipe.from_json(None) == Recipe()


def test_the_request_overrides_the_style():
    style = {"curve": [[0, 0], [0.5, 0.6], [1, 1]], "saturation": 1.3, "sharpen": 0.4, "white_background": True}
    plain = Recipe.from_json({}, style)
    assert (plain.tone.curve[1], plain.tone.saturation, plain.tone.sharpen, plain.white_background) == (
        (0.5, 0.6),
        1.3,
        0.4,
        True,
    )
    own = Recipe.from_json({"tone": "none", "saturation": 1.0, "white_background": False}, style)
    assert (own.tone.curve, own.tone.saturation, own.tone.sharpen, own.white_background) == (IDENTITY, 1.0, 0.4, False)


def test_a_wrong_style_is_named():
    with pytest.raises(RecipeError) as caught:
        Recipe.from_json({}, {"saturation": 5})
    assert caught.value.faults[0].field == "style.tone.saturation"


def test_equal_blocks_are_equal_recipes():
    block = {"watermark": {"kind": "text", "text": "x"}, "tone": [[0, 0], [1, 0.9]]}
    assert hash(Recipe.from_json(block)) == hash(Recipe.from_json(dict(block)))


def test_4x_is_a_later_version_by_default():
    late = Recipe.from_json({"upscale": {"scale": 4}, "saturation": 1.2})
    assert late.late
    assert late.first_version() == Recipe.from_json({"saturation": 1.2})
    at_once = Recipe.from_json({"upscale": {"scale": 2}})
    assert not at_once.late
    assert at_once.first_version() is at_once


def test_reading_a_block_loads_no_heavy_library():
    """The web process reads recipes to refuse wrong ones; OpenCV, ONNX Runtime and torch must stay out of it."""
    block = next(block for block in BLOCKS["accepted"] if block and "image" in str(block.get("watermark", "")))
    script = (
        "import sys, json; from postprocessing.recipe import Recipe; Recipe.from_json(json.loads(sys.argv[1]));"
        "sys.exit(bool({'cv2', 'onnxruntime', 'torch', 'django'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script, json.dumps(block)], check=False).returncode == 0
