"""Golden pictures, and properties that hold for every picture."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from postprocessing.arrays import as_rgb8, check_picture
from postprocessing.decoding import decode
from postprocessing.pipeline import process, render, thumbnail
from postprocessing.recipe import FORMATS, Recipe
from postprocessing.superres import SuperResConfig
from postprocessing.tests import golden

SIDES = st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 255, 256, 257, 1023, 4096]))


@pytest.mark.parametrize("name", golden.CASES)
def test_golden(name):
    _, mean, largest = golden.CASES[name]
    difference = np.abs(golden.made(name).astype(int) - golden.load(name))
    assert difference.mean() <= mean
    assert difference.max() <= largest


@pytest.mark.parametrize("name", golden.CASES)
def test_each_golden_picture_shows_its_step(name):
    before = golden.load("product" if name == "white_background" else "input")
    after = golden.load(name)
    if name == "upscale":
        before = before.repeat(2, axis=0).repeat(2, axis=1)
    assert np.abs(after.astype(int) - before).mean() > 1


def picture(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=40, deadline=None)
@given(SIDES, st.integers(1, 40), st.booleans(), st.integers(0, 9))
def test_every_size_passes_every_cheap_step(long, short, upright, seed):
    source = picture(*((long, short) if upright else (short, long)), seed)
    recipe = Recipe.from_json(
        {"brightness": 0.1, "contrast": 1.2, "white_balance": "auto", "tone": [[0, 0], [0.5, 0.6], [1, 1]],
         "saturation": 1.4, "sharpen": 0.6, "white_background": True}
    )  # fmt: skip
    done = render([source], recipe, SuperResConfig())[0]
    assert check_picture(done).shape == source.shape
    small = thumbnail(done)
    assert max(small.width, small.height) <= 256
    assert min(small.width, small.height) >= 1


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(FORMATS), SIDES, st.integers(1, 12), st.sampled_from(["full", "none"]))
def test_every_size_is_a_readable_file(form, long, short, metadata):
    encoded = process([picture(short, long, 0)], Recipe.from_json({"format": form, "metadata": metadata}))[0]
    assert decode(encoded.data).shape == (encoded.height, encoded.width, 3) == (short, long, 3)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
        shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)),
        elements={"min_value": 0, "max_value": 1},
    )
)
def test_alpha_grey_and_16_bit_enter(array):
    done = as_rgb8(array)
    assert check_picture(done).shape == (*array.shape[:2], 3)
    if array.shape[2] in (1, 2):
        assert (done == done[:, :, :1]).all()
    if array.dtype == np.uint8 and array.shape[2] == 3:
        assert (done == array).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(0, 99))
def test_a_batch_is_the_same_as_one_by_one(count, seed):
    pictures = [picture(20 + index % 2, 30, seed + index) for index in range(count)]
    recipe = Recipe.from_json({"saturation": 1.3, "sharpen": 0.4, "format": "png"})
    together = process(pictures, recipe)
    assert [one.sha256 for one in together] == [process([single], recipe)[0].sha256 for single in pictures]
