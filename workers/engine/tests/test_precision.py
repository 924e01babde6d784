"""Weights of 8 bits, and the fall to a lower precision where memory is short."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from workers.engine import Engine, ModelPool, ModelSpec, PoolConfig
from workers.engine.models import int8
from workers.engine.models.int8 import quantise
from workers.engine.tests import tiny_models
from workers.engine.tests.driving import run_to_end, sample, worst
from workers.engine.tests.test_loras import made, use

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "sd"
    tiny_models.save_stable_diffusion(folder)
    return folder


def pool_of(spec, **how):
    pool = ModelPool(PoolConfig(device="cpu"), **how)
    pool.ensure(spec)
    return pool


def precision_in_memory(pool, key="m@1"):
    return pool.get(key).components["unet"].dtype


def test_eight_bits_take_a_third_of_the_memory_and_give_nearly_the_same_picture(mini_pool, mini_spec):
    spec = replace(mini_spec, precision="int8", options={"int8": {"prompts": ["a red circle"]}})
    pool = pool_of(spec)
    request = sample(width=128, height=128, steps=6)
    whole = run_to_end(Engine(mini_pool), [request]).images[request.sample_id]
    eight = run_to_end(Engine(pool), [request]).images[request.sample_id]
    assert pool.get("mini@1").memory_bytes() < 0.4 * mini_pool.get("mini@1").memory_bytes()
    assert 0 < np.abs(eight - whole).mean() < 0.02
    pool.close()


class Crooked(torch.nn.Module):
    """A layer of which the inputs are far from alike: a few channels carry nearly everything."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.layer = torch.nn.Linear(128, 64)
        self.layer.weight.data[:, 64:] *= 40  # large weights that meet no input
        self.requires_grad_(False)

    def inputs(self):
        x = torch.randn(256, 128, generator=torch.Generator().manual_seed(5))
        x[:, 64:] *= 1e-3
        return x

    def change(self, calibrate):
        """Relative change of the output by 8 bits."""
        x = self.inputs()
        before = self.layer(x)
        assert quantise({"m": self}, (lambda: self.layer(x)) if calibrate else (lambda: None)) == []
        return float((self.layer(x) - before).norm() / before.norm())


def test_calibration_makes_the_change_of_the_output_smaller(monkeypatch):
    monkeypatch.setattr(int8, "WORST", 1.0)
    assert Crooked().change(calibrate=True) < 0.9 * Crooked().change(calibrate=False)


def test_a_layer_that_would_suffer_stays_as_it_is():
    crooked = Crooked()
    x = crooked.inputs()
    before = crooked.layer(x)
    assert quantise({"m": crooked}, lambda: crooked.layer(x)) == ["m.layer"]
    assert torch.equal(crooked.layer(x), before)


def test_a_calibration_that_fails_is_left_out_with_a_line(caplog):
    def fails():
        raise RuntimeError("no pictures today")

    layer = torch.nn.Sequential(torch.nn.Linear(128, 64).requires_grad_(False))
    assert quantise({"m": layer}, fails) == []
    assert [record.getMessage() for record in caplog.records] == ["8-bit weights are not calibrated: no pictures today"]


def test_loras_act_on_weights_of_eight_bits(folder, tmp_path):
    pool = pool_of(ModelSpec("m", "1", "sd15", str(folder), "int8"))
    lora = use(made(folder, tmp_path / "a", "attention", rank=4, alpha=4, seed=1), 1.0)
    plain, changed = sample(model="m@1", seed=1), sample(model="m@1", seed=1, loras=(lora,))
    run = run_to_end(Engine(pool), [plain, changed])
    assert run.errors == {}
    assert worst(run.images[plain.sample_id], run.images[changed.sample_id]) > 1e-3


def test_over_ninety_percent_a_model_is_loaded_in_a_lower_precision(folder, caplog):
    full = iter([0.95, 0.95, 0.85])
    pool = pool_of(ModelSpec("m", "1", "sd15", str(folder)), memory_load=lambda: next(full))
    assert precision_in_memory(pool) is torch.bfloat16
    assert pool.precision_of("m@1") == "bf16"
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert lines == ["over 90% of the memory is in use: model m@1 goes from fp32 to bf16"]
    request = sample(model="m@1")
    assert request.sample_id in run_to_end(Engine(pool), [request]).images


def test_models_that_nobody_uses_leave_before_a_precision_falls(folder):
    full = [0.5]
    pool = pool_of(ModelSpec("m", "1", "sd15", str(folder)), memory_load=lambda: full[0])
    pool.ensure(ModelSpec("idle", "1", "sd15", str(folder)))
    pool.get("idle@1")
    looks = iter([0.95, 0.6, 0.6])
    pool.memory_load = lambda: next(looks)
    pool.get("m@1")
    assert set(pool.loaded()) == {"m@1"}
    assert pool.precision_of("m@1") == "fp32"


def test_the_ladder_ends_and_the_model_serves_all_the_same(folder, caplog):
    pool = pool_of(ModelSpec("m", "1", "sd15", str(folder)), memory_load=lambda: 0.99)
    request = sample(model="m@1", steps=1)
    assert request.sample_id in run_to_end(Engine(pool), [request]).images
    assert pool.precision_of("m@1") == "int8"


def test_out_of_memory_while_loading_loads_in_a_lower_precision(folder, monkeypatch):
    from workers.engine.models import diffusers_model

    real = diffusers_model.load_components

    def tight(spec, device):
        if spec.precision == "fp32":
            raise torch.OutOfMemoryError("injected")
        return real(spec, device)

    monkeypatch.setattr(diffusers_model, "load_components", tight)
    pool = pool_of(ModelSpec("m", "1", "sd15", str(folder)))
    request = sample(model="m@1", steps=1)
    assert request.sample_id in run_to_end(Engine(pool), [request]).images
    assert precision_in_memory(pool) is torch.bfloat16


def test_an_image_that_does_not_fit_alone_is_tried_again_in_a_lower_precision(folder):
    pool = pool_of(ModelSpec("m", "1", "sd15", str(folder)))
    engine = Engine(pool)
    pool.preload(["m@1"])
    heavy = pool.get("m@1").heavy["unet"]

    def full(**_):
        raise torch.OutOfMemoryError("injected")

    heavy.run = full
    request = sample(model="m@1", steps=1)
    run = run_to_end(engine, [request])
    assert getattr(run.errors[request.sample_id], "retryable", None) is True
    again = sample(model="m@1", steps=1)
    assert again.sample_id in run_to_end(engine, [again]).images
    assert precision_in_memory(pool) is torch.bfloat16
