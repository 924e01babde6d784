"""Families by configuration only: FLUX, SD3, Z-Image and Qwen-Image share their steps and equal their stock runs."""

import random

import numpy as np
import pytest

from workers.engine import ModelSpec, hub
from workers.engine.parking import Phase
from workers.tests.engine import tiny_models
from workers.tests.engine.driving import sample
from workers.tests.engine.stock import Stock
from workers.tests.engine.test_equality_gate import differences, engine_for

FAMILIES = {
    "flux": (tiny_models.save_flux, "Flux", "guidance_scale"),
    "sd3": (tiny_models.save_sd3, "StableDiffusion3", "guidance_scale"),
    "z-image": (tiny_models.save_z_image, "ZImage", "guidance_scale"),
    "qwen-image": (tiny_models.save_qwen_image, "QwenImage", "true_cfg_scale"),
}
PROMPTS = ["a cat", "a red circle on a white background, in the style of an old master", "树和房子", "x" * 40]


def requests(kind, chance):
    noise = np.random.default_rng(3)
    mask = np.zeros((64, 64), np.uint8)
    mask[20:50, 10:40] = 255
    for _ in range(4):
        yield sample(
            model="m@1", kind=kind, sampler="auto", steps=chance.randint(2, 6),
            cfg_scale=chance.choice([1.0, 3.0, 5.0]), seed=chance.randrange(2**48), prompt=chance.choice(PROMPTS),
            negative_prompt=chance.choice(["blurry", "bad"]), mask=mask,
            image=noise.integers(0, 256, (64, 64, 3), np.uint8), strength=chance.choice([0.6, 1.0]),
        )  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mixed_batch_equals_the_stock_runs(family, tmp_path, monkeypatch):
    save, name, guidance = FAMILIES[family]
    save(tmp_path / "m")
    chance = random.Random(6)
    engine = engine_for(ModelSpec("m", "1", family, str(tmp_path / "m")))
    stock = Stock(tmp_path / "m", name=name, guidance=guidance)
    sizes = []
    run_together = hub.run_together

    def recorded(samples):
        if samples[0].call.phase is Phase.DENOISE:
            sizes.append(len(samples))
        run_together(samples)

    monkeypatch.setattr(hub, "run_together", recorded)
    wanted = [request for kind in ("text2img", "img2img", "inpaint") for request in requests(kind, chance)]
    found = differences(engine, stock, wanted, chance, monkeypatch)
    print("worst of", len(found), ":", max(found.values()), max(found, key=found.get), "mean batch", np.mean(sizes))
    assert max(found.values()) <= 1e-4
    assert np.mean(sizes) > 1.5, "they did share"
