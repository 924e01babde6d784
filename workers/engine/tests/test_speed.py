"""Speed settings change times, not pictures; what is missing here falls back with a log line."""

import logging

import pytest
import torch

from workers.engine import Engine, EngineConfig, ModelSpec
from workers.engine.batching.scheduler import Policy
from workers.engine.models.speed import apply_speed
from workers.engine.tests import tiny_models
from workers.engine.tests.driving import run_to_end, sample, worst
from workers.engine.tests.stock import Stock
from workers.engine.tests.test_equality_gate import engine_for

FLAT = {"block_out_channels": (8,), "down_block_types": ("CrossAttnDownBlock2D",), "norm_num_groups": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "sd"
    tiny_models.save_stable_diffusion(folder, with_controlnet=False)
    return folder


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """A UNet of one level: the least that there is to compile."""
    folder = tmp_path_factory.mktemp("flat") / "sd"
    tiny_models.save_stable_diffusion(folder, with_controlnet=False, **FLAT)
    return folder


def engine_with(folder, settings):
    return engine_for(ModelSpec("m", "1", "sd15", str(folder), options={"speed": settings}))


def lines_of(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "workers.engine.models.speed"]


def equal_to_stock(folder, run, requests):
    assert run.errors == {}
    stock = Stock(folder)
    assert max(worst(run.images[request.sample_id], stock(request)) for request in requests) <= 1e-4


@pytest.mark.parametrize(
    ("settings", "left_out"),
    [
        ({"attention": "sdpa"}, None),
        ({"attention": "xformers"}, "attention"),
        ({"attention": "flash"}, "attention"),
        ({"attention": "no-such-backend"}, "attention"),
        ({"channels_last": True}, None),
        ({"vae_slicing": True}, None),
        ({"vae_tiling": True}, None),
        ({"compile": {"backend": "no-such-backend"}}, "compile"),
        ({"compile": {"no_such_argument": 1}}, "compile"),
        ({"offload": True}, "offload"),
        ({"warp": 9}, "warp"),
    ],
)
def test_a_setting_works_or_is_left_out_with_a_line(folder, settings, left_out, caplog):
    requests = [sample(model="m@1", seed=1), sample(model="m@1", seed=2, sampler="ddim", steps=2)]
    with caplog.at_level(logging.WARNING, "workers.engine.models.speed"):
        run = run_to_end(engine_with(folder, settings), requests)
    assert len(lines_of(caplog)) == (1 if left_out else 0)
    assert all(left_out in line for line in lines_of(caplog))
    equal_to_stock(folder, run, requests)


def test_a_compiled_model_with_row_buckets_is_compiled_once(flat):
    """Four samples of a row each, of two samplers, make two full batches instead of one of an unknown shape."""
    compiled, rows = [], set()

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    engine = engine_with(flat, {"compile": {"backend": backend}})
    engine = Engine(engine._pool, EngineConfig(policy=Policy(row_buckets=(2,))))
    heavy = engine._pool.get("m@1").heavy["unet"]
    run_compiled = heavy.run
    heavy.run = lambda **call: rows.add(len(call["sample"])) or run_compiled(**call)
    requests = [
        sample(model="m@1", seed=seed, cfg_scale=1.0, steps=2, sampler=("euler", "ddim")[seed % 2]) for seed in range(4)
    ]
    first = run_to_end(engine, requests[:2], seconds=600)  # compiling takes its time on a busy machine
    once = len(compiled)
    second = run_to_end(engine, requests[2:] + [sample(model="m@1", cfg_scale=1.0, steps=2) for _ in range(2)])
    assert (rows, len(compiled)) == ({2}, once)
    assert once > 0
    equal_to_stock(flat, first, requests[:2])
    equal_to_stock(flat, second, requests[2:])


def test_a_compiler_that_fails_at_the_first_call_is_left_out_for_good(caplog):
    tried = []

    def backend(graph, inputs):
        tried.append(graph)
        raise RuntimeError("there is no C++ compiler here")

    class Doubling(torch.nn.Module):
        def forward(self, x):
            return 2 * x

    denoiser, x = Doubling(), torch.ones(1, 2)
    apply_speed({"unet": denoiser}, "unet", {"compile": {"backend": backend}}, torch.device("cpu"))
    assert lines_of(caplog) == []
    for rows in (1, 2, 3):  # another number of rows would be compiled anew
        assert torch.equal(denoiser(x.expand(rows, 2)), 2 * x.expand(rows, 2))
    (line,) = lines_of(caplog)
    assert "compile" in line
    assert "there is no C++ compiler here" in line
    assert len(tried) == 1


def test_an_error_of_the_model_itself_is_not_taken_for_the_compilers(caplog):
    """Out of memory, above all, is for the engine to handle."""

    class Full(torch.nn.Module):
        def forward(self, x):
            raise torch.OutOfMemoryError("the device is full")

    denoiser = Full()
    apply_speed({"unet": denoiser}, "unet", {"compile": {"backend": "eager"}}, torch.device("cpu"))
    with pytest.raises(torch.OutOfMemoryError):
        denoiser(torch.ones(1))
    assert lines_of(caplog) == []


def test_large_pictures_are_decoded_in_tiles(folder, monkeypatch):
    monkeypatch.setattr("workers.engine.models.speed.TILE_FROM", 128)
    requests = [sample(model="m@1", seed=1, width=160, height=128, steps=1), sample(model="m@1", seed=2, steps=1)]
    run = run_to_end(engine_with(folder, {}), requests)
    whole, small = (Stock(folder)(request) for request in requests)
    tiled = Stock(folder)
    tiled.loaded.vae.enable_tiling()
    assert worst(run.images[requests[0].sample_id], tiled(requests[0])) <= 1e-4
    assert worst(run.images[requests[0].sample_id], whole) > 1e-4
    assert worst(run.images[requests[1].sample_id], small) <= 1e-4
    untiled = run_to_end(engine_with(folder, {"vae_tiling": False}), requests[:1])
    assert worst(untiled.images[requests[0].sample_id], whole) <= 1e-4
