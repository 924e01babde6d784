"""A picture that is not finite is none, and an inpainted one is its input outside the mask."""

import numpy as np
import pytest
import torch
from PIL import Image

from workers.engine import Engine, Failed, ModelSpec
from workers.engine.errors import NotFinite
from workers.engine.tests import tiny_models
from workers.engine.tests.driving import run_to_end, sample
from workers.engine.tests.test_equality_gate import engine_for
from workers.engine.tests.test_other_models import engine_of
from workers.gpu.png import decode_png, encode_png


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_models.save_stable_diffusion(folder / "sd")
    tiny_models.save_stable_diffusion(folder / "nine", in_channels=9, with_controlnet=False)
    tiny_models.save_sdxl(folder / "sdxl")
    tiny_models.save_sd3(folder / "sd3")
    return folder


class Everything(torch.nn.Module):
    """Paints the whole picture in one value, whatever the mask says."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(value))

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(image) * self.value


def painter(folder, value):
    path = folder / f"{value}.pt"
    torch.jit.save(torch.jit.script(Everything(value)), str(path))
    return ModelSpec("m", "1", "lama", str(path))


def stored(picture):
    """As it is kept: uint8 [H, W, 3]."""
    return np.round(decode_png(encode_png(picture)) * 255).astype(np.uint8)


def painting(kind="inpaint", size=(64, 64), mask_size=(64, 64), soft=False, **changes):
    noise = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), np.uint8)
    mask = np.zeros((mask_size[1], mask_size[0]), np.uint8)
    mask[mask_size[1] // 2 :, : mask_size[0] // 2] = 255
    if soft:
        mask[mask_size[1] // 2 :, mask_size[0] // 2] = 100
    lines = np.zeros((64, 64, 3), np.uint8)
    lines[20] = 255
    changes = {"model": "m@1", "strength": 1.0, "control_type": "canny", "control_image": lines, **changes}
    return sample(kind=kind, image=noise, mask=mask, **changes)


@pytest.mark.parametrize(
    ("family", "source", "kind"),
    [
        ("sd15", "sd", "inpaint"), ("sd15", "sd", "controlnet_inpaint"), ("sd-inpaint", "nine", "inpaint"),
        ("sdxl", "sdxl", "inpaint"), ("sd3", "sd3", "inpaint"), ("lama", "", "inpaint"), ("lama", "", "remove"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [(64, 64), (100, 50)])
def test_outside_the_mask_an_inpainted_picture_is_its_input_to_the_byte(models, tmp_path, family, source, kind, size):
    options = {"controlnets": {"canny": "controlnet-canny"}} if source == "sd" else {}
    spec = (
        painter(tmp_path, 0.5)
        if family == "lama"
        else ModelSpec("m", "1", family, str(models / source), "auto", options)
    )
    request = painting(kind, size, soft=True)
    picture = stored(run_to_end(engine_for(spec), [request]).images[request.sample_id])
    given = np.asarray(Image.fromarray(request.image).resize((64, 64), Image.Resampling.LANCZOS))
    assert np.array_equal(picture[request.mask == 0], given[request.mask == 0])
    assert not np.array_equal(picture[request.mask == 255], given[request.mask == 255])


def test_a_soft_mask_is_a_soft_edge(tmp_path):
    request = painting(soft=True)
    picture = run_to_end(engine_of(painter(tmp_path, 0.25)), [request]).images[request.sample_id]
    edge = request.mask == 100
    expected = 0.25 * 100 / 255 + request.image[edge] / 255 * 155 / 255
    assert np.abs(picture[edge] - expected).max() < 1e-5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_latents_that_are_no_numbers_fail_alone_and_are_nobodys_picture(mini_pool, value):
    model = mini_pool.get("mini@1").heavy["unet"].module
    sick = [sample(seed=3, text="sick", cache=True, cfg_scale=1.0, steps=2) for _ in range(2)]
    healthy = [sample(seed=seed, cfg_scale=1.0, steps=2) for seed in (1, 2)]
    spoiled = slice(None)

    def spoil(_module, _arguments, output):
        noise = output[0].clone()
        noise[spoiled] = value
        return (noise, *output[1:])

    handle = model.register_forward_hook(spoil)
    try:
        run = run_to_end(Engine(mini_pool), sick)
        spoiled = 0  # the row of the oldest
        beside = run_to_end(Engine(mini_pool), [healthy[0], sick[0], healthy[1]])
    finally:
        handle.remove()
    failures = [event for event in run.events if isinstance(event, Failed)]
    assert run.images == {}
    assert [event.sample_id for event in failures] == [one.sample_id for one in sick]
    assert all(isinstance(event.error, NotFinite) and event.retryable for event in failures)
    assert beside.images.keys() == {one.sample_id for one in healthy}
    assert "not numbers" in str(beside.errors[sick[0].sample_id])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_decoder_that_overflows_is_a_failure_not_a_white_picture(mini_pool, value):
    decoder = mini_pool.get("mini@1").components["vae"].decoder
    handle = decoder.register_forward_hook(lambda _m, _a, picture: torch.full_like(picture, value))
    request = sample(steps=1)
    try:
        run = run_to_end(Engine(mini_pool), [request])
    finally:
        handle.remove()
    assert isinstance(run.errors[request.sample_id], NotFinite)


def test_object_removal_that_is_no_picture_fails(tmp_path):
    request = painting("remove")
    run = run_to_end(engine_of(painter(tmp_path, float("nan"))), [request])
    assert isinstance(run.errors[request.sample_id], NotFinite)
