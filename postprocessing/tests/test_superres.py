import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postprocessing import superres
from postprocessing.errors import EnlargementNotFinite, SuperResolutionMissing
from postprocessing.pipeline import process
from postprocessing.recipe import Recipe
from postprocessing.superres import (
    SuperResConfig,
    load_network,
    pictures_per_call,
    upscale,
    with_margin,
    without_margin,
)
from postprocessing.tests.networks import save_blur_network
from postprocessing.tests.pictures import psnr, scene
from postprocessing.tiles import spans


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> SuperResConfig:
    directory = tmp_path_factory.mktemp("superres")
    for scale in (2, 4):
        save_blur_network(directory / f"x{scale}.onnx", scale)
    return SuperResConfig(directory, tile=64, overlap=16, providers=("CPUExecutionProvider",), threads=1)


def whole(picture: np.ndarray, scale: int, config: SuperResConfig) -> np.ndarray:
    """The network on the undivided picture."""
    unit = with_margin(picture).transpose(2, 0, 1)[None].astype(np.float32) / 255
    output = without_margin(load_network(config, scale).run(unit)[0].transpose(1, 2, 0), picture.shape, scale)
    return np.rint(np.clip(output, 0, 1) * 255).astype(np.uint8)


@given(st.integers(1, 4096), st.sampled_from([(32, 8, 1), (64, 16, 4), (256, 32, 4), (256, 128, 1), (7, 0, 1)]))
def test_weights_of_spans_add_up_to_one(side, how):
    tile, overlap, multiple = how
    total = np.zeros(side)
    previous = None
    found = spans(side, *how)
    (length,) = {span.stop - span.start for span in found}
    assert length <= tile
    assert length % multiple == 0 or length == side
    assert len(found) == max(1, -(-(side - overlap) // (tile - overlap))), "no more than are needed"
    for span in found:
        assert previous is None or previous.stop - span.start >= overlap
        total[span.start : span.stop] += span.weights
        previous = span
    assert previous is not None
    assert previous.stop == side
    assert np.abs(total - 1).max() < 1e-5


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("shape", [(64, 64), (65, 130), (200, 97), (150, 40), (1, 1), (3, 301)])
def test_tiles_join_without_a_seam(config, scale, shape):
    """Tiled equals undivided, up to one level of rounding: the context of a tile is wider than what the network
    sees.
    """
    picture = scene(*shape)
    tiled = upscale([picture], scale, config)[0]
    assert tiled.shape == (shape[0] * scale, shape[1] * scale, 3)
    assert np.abs(tiled.astype(int) - whole(picture, scale, config)).max() <= 1


def test_too_little_overlap_would_show(config):
    """The test above can fail: without overlap the seams are there."""
    picture = scene(112, 112)  # with its margins twice a tile
    tiled = upscale([picture], 2, replace(config, overlap=0))[0]
    assert np.abs(tiled.astype(int) - whole(picture, 2, config)).max() > 5


def test_pictures_of_one_size_share_calls_and_equal_their_single_runs(config):
    pictures = [scene(100, 70, seed) for seed in range(3)] + [scene(40, 40, 9)]
    together = upscale(pictures, 2, config)
    for picture, result in zip(pictures, together, strict=True):
        assert np.abs(result.astype(int) - upscale([picture], 2, config)[0]).max() <= 1


def test_a_picture_little_larger_than_a_tile_is_cut_in_halves_not_in_nearly_whole_tiles(config):
    work = sum((span.stop - span.start) for span in spans(272, 256, 32, 4))
    assert work == 2 * 152


def test_memory_does_not_grow_with_the_number_of_pictures(config, monkeypatch):
    held = []
    monkeypatch.setattr(superres, "_strip", _noting(superres._strip, held))
    upscale([scene(120, 120, seed=seed) for seed in range(7)], 2, config)
    assert max(held) == pictures_per_call((120, 120), config) == 1, "three tiles a row, four tiles a call"


def _noting(strip, held):
    def noted(parts, *rest):
        held.append(len(parts))
        return strip(parts, *rest)

    return noted


def test_progress_rises_to_one(config):
    seen: list[float] = []
    upscale([scene(150, 150), scene(150, 150, 1), scene(30, 30)], 2, config, seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) > 5


def test_a_missing_network_says_what_to_do(tmp_path):
    with pytest.raises(SuperResolutionMissing, match="convert_superres"):
        upscale([scene(8, 8)], 4, SuperResConfig(tmp_path))
    (tmp_path / "x4.onnx").write_bytes(b"not a network")
    with pytest.raises(SuperResolutionMissing, match="cannot be used"):
        upscale([scene(8, 8)], 4, SuperResConfig(tmp_path))
    save_blur_network(tmp_path / "x4.onnx", 2)
    with pytest.raises(SuperResolutionMissing, match="not a network for 4x"):
        upscale([scene(8, 8)], 4, SuperResConfig(tmp_path))
    save_blur_network(tmp_path / "x4.onnx", 4)  # a repaired file is taken without a restart
    assert upscale([scene(8, 8)], 4, SuperResConfig(tmp_path))[0].shape == (32, 32, 3)


def test_too_large_results_are_refused_before_any_work(config):
    with pytest.raises(ValueError, match="16384"):
        upscale([np.zeros((4, 5000, 3), np.uint8)], 4, config)


def test_the_pipeline_enlarges(config):
    encoded = process([scene(50, 60)], Recipe.from_json({"upscale": {"scale": 4}, "sharpen": 0.3}), config=config)[0]
    assert (encoded.width, encoded.height) == (240, 200)


def test_1024_to_4096_in_bounded_memory(config):
    """Beyond the interpreter and the two pictures (51 MB) no more than 350 MB; one float32 copy of the result alone
    has 201 MB.
    """
    script = (
        "import resource, numpy as np; from pathlib import Path\n"
        "from postprocessing.superres import SuperResConfig, upscale\n"
        f"config = SuperResConfig(Path({str(config.directory)!r}), providers=('CPUExecutionProvider',), threads=1)\n"
        "upscale([np.zeros((8, 8, 3), np.uint8)], 4, config)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "out = upscale([np.full((1024, 1024, 3), 100, np.uint8)], 4, config)[0]\n"
        "assert out.shape == (4096, 4096, 3)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) / 1024 < 350


@pytest.mark.parametrize("scale", [2, 4])
def test_the_shipped_networks(scale):
    """They load by the default configuration, beat bicubic enlargement of a drawing, and their tiles join without a
    seam.
    """
    shipped = SuperResConfig(threads=1, providers=("CPUExecutionProvider",))
    large = cv2.GaussianBlur(scene(192, 256)[:, :128], (0, 0), 0.5)  # the part without noise
    small = cv2.resize(large, (128 // scale, 192 // scale), interpolation=cv2.INTER_AREA)
    enlarged = upscale([small], scale, shipped)[0]
    bicubic = cv2.resize(small, (128, 192), interpolation=cv2.INTER_CUBIC)
    assert psnr(enlarged, large) > psnr(bicubic, large) + 0.5
    tiled = upscale([small], scale, replace(shipped, tile=48, overlap=24))[0]
    assert np.abs(tiled.astype(int) - enlarged).max() <= 2


def test_a_network_that_makes_no_numbers_is_a_fault_and_no_black_picture(config, monkeypatch):
    network = load_network(config, 2)

    class Broken:
        def run(self, _names, feed):
            return [np.full((1, 3, 8, 8), np.nan, np.float32)]

        def get_inputs(self):
            return network.session.get_inputs()

    with pytest.raises(EnlargementNotFinite):
        replace(network, session=Broken()).run(np.zeros((1, 3, 4, 4), np.float32))
