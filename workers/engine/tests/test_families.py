"""Families by configuration only: FLUX, SD3, Z-Image and Qwen-Image share their steps and equal their stock runs."""

import random

import diffusers
import numpy as np
import pytest
import torch

from workers.engine import ModelSpec, ModelUnavailable
from workers.engine.batching import batch_runner
from workers.engine.interception import Phase
from workers.engine.models.component_loader import load_components
from workers.engine.tests import tiny_models
from workers.engine.tests.driving import as_array, run_to_end, sample, worst
from workers.engine.tests.stock import Stock
from workers.engine.tests.test_equality_gate import differences, engine_for

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
            cfg_scale=chance.choice([1.0, 3.0, 5.0]), seed=chance.randrange(2**48), text=chance.choice(PROMPTS),
            negative_text=chance.choice(["blurry", "bad"]), mask=mask,
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
    run_together = batch_runner.run_together

    def recorded(samples):
        if samples[0].call.phase is Phase.DENOISE:
            sizes.append(len(samples))
        run_together(samples)

    monkeypatch.setattr(batch_runner, "run_together", recorded)
    wanted = [request for kind in ("text2img", "img2img", "inpaint") for request in requests(kind, chance)]
    found = differences(engine, stock, wanted, chance, monkeypatch)
    print("worst of", len(found), ":", max(found.values()), max(found, key=found.get), "mean batch", np.mean(sizes))
    assert max(found.values()) <= 1e-4
    assert np.mean(sizes) > 1.5, "they did share"


@pytest.mark.parametrize("sort", ["turbo", "lightning", "lcm"])
def test_few_step_forms_of_sdxl_keep_their_own_schedule(sort, tmp_path, monkeypatch):
    tiny_models.save_few_steps(tmp_path / "m", sort)
    chance = random.Random(7)
    engine = engine_for(ModelSpec("m", "1", "sdxl", str(tmp_path / "m")))
    scales = [1.0, 1.0, 1.0] if sort != "lcm" else [1.0, 4.0, 8.0]
    wanted = [
        sample(model="m@1", sampler="auto", steps=steps, cfg_scale=scale, seed=steps)
        for steps, scale in zip((1, 2, 4), scales, strict=True)
    ]
    found = differences(engine, Stock(tmp_path / "m", name="StableDiffusionXL"), wanted, chance, monkeypatch)
    assert max(found.values()) <= 2e-4


def test_a_pipeline_that_nobody_declared_runs_alone_and_rightly(tmp_path):
    tiny_models.save_pixart(tmp_path)
    engine = engine_for(ModelSpec("m", "1", "diffusers", str(tmp_path)))
    requests = [sample(model="m@1", sampler="auto", seed=seed, steps=2) for seed in (1, 2)]
    requests.append(sample(model="m@1", sampler="ddim", seed=1, steps=1, text="x" * 400))
    run = run_to_end(engine, requests)
    assert run.errors == {}
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    for request in requests[:2]:
        alone = pipeline(
            request.parameters.text, negative_prompt="", height=64, width=64, num_inference_steps=2, guidance_scale=4.0,
            generator=torch.Generator().manual_seed(request.seed), output_type="pt",
        )  # fmt: skip
        assert worst(run.images[request.sample_id], as_array(alone.images)) <= 1e-4
        assert run.progress(request.sample_id) == [(1, 2), (2, 2)]
    (last,) = [event for event in run.events if getattr(event, "warnings", ())]
    assert "schedule of its own" in last.warnings[0]
    assert "of which model m reads 300" in last.warnings[1]


def test_an_undeclared_model_without_an_index_is_refused(tmp_path):
    with pytest.raises(ModelUnavailable, match=r"no readable model_index\.json"):
        engine_for(ModelSpec("m", "1", "diffusers", str(tmp_path)))


def test_a_row_may_name_another_vae_and_other_settings_of_the_scheduler(tmp_path):
    tiny_models.save_stable_diffusion(tmp_path / "m", with_controlnet=False)
    torch.manual_seed(99)
    tiny_models.vae().save_pretrained(tmp_path / "other-vae")
    spec = ModelSpec("m", "1", "sd15", str(tmp_path / "m"))
    options = {"vae": "../other-vae", "scheduler": {"timestep_spacing": "trailing"}}
    changed = ModelSpec("n", "1", "sd15", str(tmp_path / "m"), options=options)
    plain, other = load_components(spec, torch.device("cpu")), load_components(changed, torch.device("cpu"))
    name = "decoder.conv_in.weight"
    expected = diffusers.AutoencoderKL.from_pretrained(tmp_path / "other-vae").state_dict()[name]
    assert torch.equal(other["vae"].state_dict()[name], expected)
    assert not torch.equal(plain["vae"].state_dict()[name], expected)
    assert other["scheduler"].config.timestep_spacing == "trailing"
    assert plain["scheduler"].config.timestep_spacing == "leading"
