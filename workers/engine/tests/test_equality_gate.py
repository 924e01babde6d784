"""The gate: every picture of a mixed batch is what its stock pipeline makes alone, whatever happens around it.

All kinds of task times all samplers, with steps, guidance, strength, control scale and seeds drawn at random, active
together: they join at random steps, are paused and resumed at random, and neighbours are cancelled in between.
"""

import random

import numpy as np
import pytest
import torch

from workers.engine import Engine, EngineConfig, ModelPool, ModelSpec, PoolConfig
from workers.engine.batching import scheduler
from workers.engine.tests import tiny_models
from workers.engine.tests.driving import Run, run_to_end, sample, worst
from workers.engine.tests.stock import SAMPLERS, SUFFIX, Stock

SIDE = 64
KINDS = list(SUFFIX)
CONTROLNETS = {"controlnets": {"canny": "controlnet-canny"}}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_models.save_stable_diffusion(folder / "sd")
    tiny_models.save_stable_diffusion(folder / "nine", in_channels=9, with_controlnet=False)
    tiny_models.save_stable_diffusion(folder / "v", prediction="v_prediction", with_controlnet=False)
    tiny_models.save_sdxl(folder / "xl")
    return folder


def engine_for(*specs, decoders=0):
    pool = ModelPool(PoolConfig(device="cpu"))
    for spec in specs:
        pool.ensure(spec)
    pool.preload([spec.key for spec in specs])
    return Engine(pool, EngineConfig(batch_limits={2048: 8}, capacity=200, decoders=decoders))


def drawn(kind, sampler, chance, model, **changes):
    """A request with everything else drawn at random, but for `changes`."""
    noise = np.random.default_rng(chance.randrange(2**32))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:, : chance.randrange(16, 56)] = 255
    lines = np.zeros((SIDE, SIDE, 3), np.uint8)
    lines[chance.randrange(SIDE), :] = lines[:, chance.randrange(SIDE)] = 255
    start = chance.choice([0.0, 0.0, 0.3])
    fields = {
        "steps": chance.randint(2, 9), "seed": chance.randrange(2**48),
        "cfg_scale": chance.choice([1, 3, 5.5, 7.5, 12]), "strength": chance.choice([0.5, 0.6, 0.8, 1.0]),
        "text": chance.choice(["a red cat", "树", ""]), "negative_text": chance.choice(["", "blurry"]),
        "image": noise.integers(0, 256, (SIDE, SIDE, 3), np.uint8), "mask": mask, "control_image": lines,
        "control_scale": chance.choice([0.4, 1.0, 1.5]), "control_start": start,
        "control_end": chance.choice([0.7, 1.0]),
    }  # fmt: skip
    return sample(model=model, kind=kind, sampler=sampler, control_type="canny", **(fields | changes))


def pausing(chance):
    """A policy that leaves out samples at random: they are paused and resumed later."""
    choose = scheduler.choose

    def at_random(candidates, row_limit, policy):
        members = choose(candidates, row_limit, policy)
        return [member for member in members if chance.random() < 0.6] or members[:1]

    return at_random


def run_with_joins_and_cancels(engine, requests, neighbours, chance):
    """Admit at random moments; cancel each neighbour some steps after it joined."""
    waiting = [*requests, *neighbours]
    chance.shuffle(waiting)
    doomed = {request.sample_id: chance.randint(1, 6) for request in neighbours}
    run = Run()
    while waiting or not engine.idle:
        while waiting and chance.random() < 0.6:
            engine.admit(waiting.pop())
        run.take(engine.step())
        for request in engine.running():
            if request.sample_id in doomed:
                doomed[request.sample_id] -= 1
                if doomed[request.sample_id] == 0:
                    engine.cancel(request.sample_id)
    return run


def differences(engine, stock, requests, chance, monkeypatch, neighbours=()):
    monkeypatch.setattr(scheduler, "choose", pausing(chance))
    run = run_with_joins_and_cancels(engine, requests, list(neighbours), chance)
    assert run.errors == {}
    assert run.cancelled <= {request.sample_id for request in neighbours}
    assert len(run.cancelled) >= len(neighbours) // 2
    return {
        (one.kind, one.parameters.sampler, one.sample_id): worst(run.images[one.sample_id], stock(one))
        for one in requests
    }


def every_kind_and_sampler(chance, model, kinds=KINDS, samplers=(*SAMPLERS, "auto")):
    return [drawn(kind, sampler, chance, model) for kind in kinds for sampler in samplers]


@pytest.mark.parametrize(
    ("runtime", "samplers"), [("eager", (*SAMPLERS, "auto")), ("onnx", ("euler", "dpm++_sde", "heun", "lcm"))]
)
def test_all_kinds_times_all_samplers(models, monkeypatch, runtime, samplers):
    chance = random.Random(1)
    engine = engine_for(ModelSpec("sd", "1", "sd15", str(models / "sd"), options=CONTROLNETS | {"runtime": runtime}))
    requests = every_kind_and_sampler(chance, "sd@1", samplers=samplers)
    neighbours = [drawn(chance.choice(KINDS), "euler", chance, "sd@1") for _ in range(8)]
    found = differences(engine, Stock(models / "sd"), requests, chance, monkeypatch, neighbours)
    print("worst of", len(found), ":", max(found.values()), max(found, key=found.get))
    assert len(found) == 6 * len(samplers)
    assert max(found.values()) <= 1e-4
    hosted = engine._pool.get("sd@1").hosted
    assert [(name, one.fallbacks) for name, one in hosted.items() if runtime == "onnx"] == [
        (name, 0) for name in hosted
    ]
    assert len(hosted) == (3 if runtime == "onnx" else 0)


def test_sdxl_all_kinds(models, monkeypatch):
    chance = random.Random(2)
    engine = engine_for(ModelSpec("xl", "1", "sdxl", str(models / "xl"), options=CONTROLNETS), decoders=2)
    requests = every_kind_and_sampler(chance, "xl@1", samplers=["euler", "euler_a", "dpm++_karras", "lcm", "unipc"])
    found = differences(engine, Stock(models / "xl", name="StableDiffusionXL"), requests, chance, monkeypatch)
    print("worst of", len(found), ":", max(found.values()), max(found, key=found.get))
    assert max(found.values()) <= 2e-4


def test_in_double_precision_the_difference_vanishes(models, monkeypatch):
    """What remains above is rounding, not logic. The result comes back as float32, so it is compared before that."""
    chance = random.Random(3)
    engine = engine_for(ModelSpec("sd", "1", "sd15", str(models / "sd"), "fp64", options=CONTROLNETS))
    monkeypatch.setattr(
        "workers.engine.models.diffusers_model._to_array", lambda picture: picture.permute(1, 2, 0).numpy()
    )
    requests = every_kind_and_sampler(chance, "sd@1", samplers=["euler", "dpm++_sde", "ddim"])
    found = differences(engine, Stock(models / "sd", torch.float64), requests, chance, monkeypatch)
    print("worst of", len(found), ":", max(found.values()), max(found, key=found.get))
    assert max(found.values()) <= 1e-9


@pytest.mark.parametrize(("folder", "family", "kinds"), [("nine", "sd-inpaint", ["inpaint"]), ("v", "sd21", KINDS[:3])])
def test_inpaint_checkpoints_and_v_prediction(models, monkeypatch, folder, family, kinds):
    chance = random.Random(4)
    engine = engine_for(ModelSpec("m", "1", family, str(models / folder)))
    requests = every_kind_and_sampler(chance, "m@1", kinds, ["euler", "dpm++", "ddim", "lcm"])
    found = differences(engine, Stock(models / folder), requests, chance, monkeypatch)
    assert max(found.values()) <= 1e-4


def test_one_step_and_sizes_that_no_power_of_two_divides(models, monkeypatch):
    """The shortest schedule of every sampler, and latents of odd sides, among samples of another size."""
    chance = random.Random(8)
    engine = engine_for(ModelSpec("sd", "1", "sd15", str(models / "sd"), options=CONTROLNETS))
    shortest = [sample(model="sd@1", sampler=sampler, steps=1, seed=3) for sampler in (*SAMPLERS, "auto")]
    pictures = {"image": np.full((56, 88, 3), 90, np.uint8), "control_image": np.zeros((104, 72, 3), np.uint8)}
    odd = [
        drawn(kind, "euler", chance, "sd@1", width=width, height=height, **pictures)
        for kind, width, height in (("text2img", 72, 104), ("controlnet", 72, 104), ("img2img", 88, 56))
    ]
    found = differences(engine, Stock(models / "sd"), [*shortest, *odd], chance, monkeypatch)
    assert max(found.values()) <= 1e-4


def test_every_sampler_goes_a_hundred_steps(models):
    engine = engine_for(ModelSpec("sd", "1", "sd15", str(models / "sd")))
    engine.limits.calibrate("sd@1:64x64", 64)
    requests = [sample(model="sd@1", sampler=sampler, steps=100, seed=3, cfg_scale=1) for sampler in SAMPLERS]
    run = run_to_end(engine, requests, seconds=600)
    assert run.errors == {}
    stock = Stock(models / "sd")
    for request in requests[:1]:
        assert worst(run.images[request.sample_id], stock(request)) <= 1e-4


def test_the_gate_can_close(models, monkeypatch):
    """Negative control: a step whose timesteps are mixed up between the rows is seen at once."""
    from workers.engine import merge_rules

    right = merge_rules._widen
    monkeypatch.setattr(merge_rules, "_widen", lambda values, rows: right(values, rows).flip(0))
    chance = random.Random(5)
    engine = engine_for(ModelSpec("sd", "1", "sd15", str(models / "sd"), options=CONTROLNETS))
    requests = every_kind_and_sampler(chance, "sd@1", ["text2img"], ["euler", "dpm++", "ddim"])
    found = differences(engine, Stock(models / "sd"), requests, chance, monkeypatch)
    assert max(found.values()) > 1e-3
