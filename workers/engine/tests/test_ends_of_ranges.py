"""The gate at the ends of what a request may ask: the largest sizes, 1 to 100 steps, guidance 1 to 20.

TEST_LARGE=1 also runs the largest sizes with attention on the upper levels of the UNet, as real models have it.
"""

import os
import random

import numpy as np
import pytest
import torch

from workers.engine import ModelSpec
from workers.engine.batching import scheduler
from workers.engine.models.precision import dtype_of
from workers.engine.models.speed import wants_tiles
from workers.engine.tests import tiny_models
from workers.engine.tests.driving import run_to_end, sample, worst
from workers.engine.tests.stock import SAMPLERS, Stock
from workers.engine.tests.test_equality_gate import CONTROLNETS, differences, engine_for

SAVE = {"sd15": tiny_models.save_stable_diffusion, "sdxl": tiny_models.save_sdxl}
CPU = torch.device("cpu")
NAME = {"sd15": "StableDiffusion", "sdxl": "StableDiffusionXL"}
ALLOWED = {"sd15": 1e-4, "sdxl": 2e-4}
DECODER = {"sample_size": 512}  # pixels of a tile, as the VAEs of real models have it


def large(kind, width, height, **changes):
    """A request with input pictures of its own size."""
    noise = np.random.default_rng(width + height)
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, : width // 2] = 255
    lines = np.zeros((height, width, 3), np.uint8)
    lines[height // 3, :] = lines[:, width // 3] = 255
    return sample(
        model="m@1", kind=kind, width=width, height=height, mask=mask, control_image=lines, control_type="canny",
        image=noise.integers(0, 256, (height, width, 3), np.uint8), **changes,
    )  # fmt: skip


def largest(folder, family, requests, options, precision="fp32"):
    """Differences to the stock runs, both sides in tiles where the engine decodes so; samples in each denoiser pass."""
    engine = engine_for(ModelSpec("m", "1", family, str(folder), precision, options=options))
    sizes = []
    choose = scheduler.choose

    def recorded(*args):
        sizes.append(len(members := choose(*args)))
        return members

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler, "choose", recorded)
        run = run_to_end(engine, requests, seconds=3600)
    assert run.errors == {}
    whole, tiled = (Stock(folder, dtype_of(precision, CPU), NAME[family]) for _ in range(2))
    tiled.loaded.vae.enable_tiling()
    found = {}
    for request in requests:
        stock = tiled if wants_tiles(options.get("speed", {}), request.width, request.height) else whole
        found[request.sample_id] = worst(run.images[request.sample_id], stock(request))
    print(family, "worst of", len(found), ":", max(found.values()), "samples in a pass:", sizes)
    return found, sizes


CHEAP = {"decoder": {"block_out_channels": (4, 4, 4, 4)}, "with_controlnet": False, **tiny_models.DEEP}
WHOLE = {"speed": {"vae_tiling": False}}


def test_the_largest_pictures_share_their_steps_and_equal_their_stock_runs(tmp_path):
    tiny_models.save_stable_diffusion(tmp_path, **CHEAP)
    requests = [
        large("text2img", 2048, 2048, sampler="euler", steps=2, seed=1),
        large("text2img", 2048, 2048, sampler="dpm++", steps=2, seed=2, cfg_scale=1.0),
        large("text2img", 256, 256, sampler="lcm", steps=2, seed=5),
    ]
    found, sizes = largest(tmp_path, "sd15", requests, WHOLE)
    assert max(found.values()) <= ALLOWED["sd15"]
    assert sizes.count(2) == 2


def test_odd_latents_of_long_pictures_equal_their_stock_runs(tmp_path, monkeypatch):
    """In double precision: norms over one channel each, as this cheap decoder has them, make rounding large."""
    monkeypatch.setattr(
        "workers.engine.models.diffusers_model._to_array", lambda picture: picture.permute(1, 2, 0).numpy()
    )
    tiny_models.save_stable_diffusion(tmp_path, **CHEAP)
    requests = [
        large("img2img", 2040, 256, sampler="ddim", steps=3, strength=0.7, seed=3),
        large("inpaint", 2040, 256, sampler="euler_a", steps=2, strength=1.0, seed=4),
    ]
    found, sizes = largest(tmp_path, "sd15", requests, WHOLE, "fp64")
    assert max(found.values()) <= 1e-9
    assert sizes == [2, 2]


@pytest.mark.skipif(not os.environ.get("TEST_LARGE"), reason="takes many minutes; TEST_LARGE=1 runs it")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("family", SAVE)
def test_with_attention_on_the_upper_levels_as_real_models_have_it(family, tmp_path):
    SAVE[family](tmp_path, decoder=DECODER)
    requests = [
        large("text2img", 2048, 2048, sampler="euler", steps=2, seed=1),
        large("img2img", 2048, 2048, sampler="dpm++", steps=2, strength=0.5, seed=2, cfg_scale=1.0),
        large("controlnet_inpaint", 2048, 2048, sampler="dpm++_sde_karras", steps=2, strength=1.0, seed=3),
        large("text2img", 2040, 1024, sampler="unipc", steps=3, seed=4),
        large("inpaint", 2040, 1024, sampler="euler_a", steps=2, strength=1.0, seed=5),
        large("controlnet", 1024, 2040, sampler="ddim", steps=2, seed=6),
        large("text2img", 256, 2048, sampler="heun", steps=2, seed=7),
        large("text2img", 256, 256, sampler="lcm", steps=2, seed=8),
    ]
    found, sizes = largest(tmp_path, family, requests, CONTROLNETS)
    assert max(found.values()) <= ALLOWED[family]
    assert max(sizes) == 3


def test_every_sampler_from_one_step_to_a_hundred(tmp_path, monkeypatch):
    """In one mixed batch, guidance at both ends of its range."""
    tiny_models.save_stable_diffusion(tmp_path, with_controlnet=False)
    engine = engine_for(ModelSpec("m", "1", "sd15", str(tmp_path)))
    engine.limits.calibrate("m@1:64x64", 64)
    requests = [
        sample(model="m@1", sampler=sampler, steps=steps, seed=steps, cfg_scale=scale)
        for sampler in (*SAMPLERS, "auto")
        for steps, scale in ((1, 20.0), (2, 1.0), (3, 20.0), (100, 20.0 if sampler == "euler" else 1.0))
        if (sampler, steps) != ("auto", 100)  # the model's own is DDIM, which is among the others
    ]
    found = differences(engine, Stock(tmp_path), requests, random.Random(10), monkeypatch)
    print("worst of", len(found), ":", max(found.values()), max(found, key=found.get))
    assert max(found.values()) <= 1e-4
