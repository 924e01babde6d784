"""Control pictures: a ready one is taken, another is drawn from the photo, and what cannot be drawn is refused."""

import cv2
import numpy as np
import pytest
import torch
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from workers.engine import InvalidSample, ModelSpec, ModelUnavailable
from workers.engine.models.controls import control_picture, edges
from workers.engine.models.preprocessors import Preprocessors
from workers.engine.tests import tiny_models
from workers.engine.tests.driving import run_to_end, sample, worst
from workers.engine.tests.test_equality_gate import engine_for

NOISE = np.random.default_rng(4)


def photo(side=64):
    """A yellow disc on blue, with some noise."""
    picture = np.full((side, side, 3), (30, 60, 200), np.uint8)
    cv2.circle(picture, (side // 2, side // 2), side // 4, (250, 210, 90), -1)
    return np.clip(picture.astype(int) + NOISE.integers(-8, 8, picture.shape), 0, 255).astype(np.uint8)


def depth_map():
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    return np.repeat(ramp[:, :, None], 3, axis=2)


def pose():
    picture = np.zeros((64, 64, 3), np.uint8)
    cv2.line(picture, (32, 10), (32, 40), (255, 0, 85), 3)
    return picture


READY = {"canny": edges(photo()), "depth": depth_map(), "openpose": pose()}


def never(control_type, picture):
    raise AssertionError(f"{control_type} is not to be drawn")


def asked(control_type, **changes):
    return sample(kind="controlnet", control_type=control_type, **changes)


@pytest.mark.parametrize("control_type", READY)
def test_a_ready_picture_is_taken_as_it_is(control_type):
    ready = READY[control_type]
    taken = np.asarray(control_picture(asked(control_type, control_image=ready), never))
    assert np.array_equal(taken, ready)


@pytest.mark.parametrize("control_type", READY)
def test_whatever_the_request_calls_ready_is_taken(control_type):
    request = asked(control_type, control_image=photo(), control_ready=True)
    assert np.array_equal(np.asarray(control_picture(request, never)), request.control_image)


@pytest.mark.parametrize("control_type", ["depth", "openpose"])
def test_a_photo_is_drawn_from_in_the_size_of_the_result(control_type):
    seen = []

    def draw(kind, picture):
        seen.append((kind, picture.shape))
        return picture * 0

    drawn = control_picture(asked(control_type, control_image=photo(32)), draw)
    assert seen == [(control_type, (64, 64, 3))]
    assert not np.asarray(drawn).any()


def test_a_ready_picture_that_is_called_a_photo_is_drawn_from():
    request = asked("depth", control_image=depth_map(), control_ready=False)
    assert not np.asarray(control_picture(request, lambda kind, picture: picture * 0)).any()


def test_colours_of_equal_brightness_have_an_edge_between_them():
    picture = np.full((64, 64, 3), (30, 60, 235), np.uint8)
    cv2.circle(picture, (32, 32), 16, (200, 4, 4), -1)
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    assert abs(int(grey[0, 0]) - int(grey[32, 32])) < 10, "or this would say nothing"
    assert edges(picture).any()


def test_edges_of_a_photo_and_of_the_input_picture():
    for given in ({"control_image": photo()}, {"image": photo()}):
        drawn = np.asarray(control_picture(asked("canny", **given), never))
        assert set(np.unique(drawn)) == {0, 255}
        assert drawn[32, 14:20].any(), "the left edge of the disc"
        assert not drawn[28:36, 28:36].any(), "its middle"


def test_without_any_picture_it_is_the_requests_fault():
    with pytest.raises(InvalidSample, match="control picture"):
        control_picture(asked("canny"), never)


@pytest.fixture(scope="module")
def depth_folder(tmp_path_factory):
    """A Depth Anything model with random weights."""
    folder = tmp_path_factory.mktemp("depth")
    torch.manual_seed(9)
    stages = [f"stage{number}" for number in range(1, 5)]
    backbone = Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=28, patch_size=14, out_features=stages,
        reshape_hidden_states=False,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, neck_hidden_sizes=[8] * 4, fusion_hidden_size=8,
        head_hidden_size=8, patch_size=14,
    )  # fmt: skip
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    return folder


def test_depth_is_drawn_by_its_network(depth_folder):
    spec = ModelSpec("m", "1", "sd15", "", options={"preprocessors": {"depth": str(depth_folder)}})
    drawn = Preprocessors(spec).draw("depth", photo(80))
    assert drawn.shape == (80, 80, 3)
    assert drawn.dtype == np.uint8
    assert drawn.max() > drawn.min()
    assert np.array_equal(drawn[:, :, 0], drawn[:, :, 2])


def test_what_is_missing_is_said(tmp_path):
    nothing = Preprocessors(ModelSpec("m", "1", "sd15", ""))
    with pytest.raises(InvalidSample, match=r"no preprocessor for depth here; send a ready depth picture"):
        nothing.draw("depth", photo())
    poses = Preprocessors(ModelSpec("m", "1", "sd15", "", options={"preprocessors": {"openpose": str(tmp_path)}}))
    with pytest.raises(InvalidSample, match=r"controlnet-aux, which is not installed here"):
        poses.draw("openpose", photo())
    broken = Preprocessors(ModelSpec("m", "1", "sd15", "", options={"preprocessors": {"depth": str(tmp_path)}}))
    with pytest.raises(ModelUnavailable, match="depth preprocessor"):
        broken.draw("depth", photo())


def test_in_the_engine_a_photo_equals_its_own_depth_picture_and_others_step_on(depth_folder, tmp_path):
    tiny_models.save_stable_diffusion(tmp_path)
    options = {
        "controlnets": {"depth": "controlnet-canny", "openpose": "controlnet-canny"},
        "preprocessors": {"depth": str(depth_folder)},
    }
    spec = ModelSpec("m", "1", "sd15", str(tmp_path), options=options)
    given = photo()
    ready = Preprocessors(spec).draw("depth", given)
    requests = [
        asked("depth", model="m@1", control_image=given),
        asked("depth", model="m@1", control_image=ready),
        asked("openpose", model="m@1", control_image=given),
        asked("openpose", model="m@1", control_image=pose()),
    ]
    run = run_to_end(engine_for(spec), requests)
    assert worst(run.images[requests[0].sample_id], run.images[requests[1].sample_id]) <= 1e-4
    assert set(run.errors) == {requests[2].sample_id}
    assert requests[3].sample_id in run.images
