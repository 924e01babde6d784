"""Speed settings change times, not pictures; what is missing here falls back with a log line."""

import logging

import pytest

from workers.engine import ModelSpec
from workers.tests.engine import tiny_models
from workers.tests.engine.driving import run_to_end, sample, worst
from workers.tests.engine.stock import Stock
from workers.tests.engine.test_equality_gate import engine_for


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "sd"
    tiny_models.save_stable_diffusion(folder)
    return folder


@pytest.mark.parametrize(
    ("settings", "left_out"),
    [
        ({"attention": "sdpa"}, None),
        ({"attention": "xformers"}, "attention"),
        ({"attention": "no-such-backend"}, "attention"),
        ({"channels_last": True, "vae_slicing": True}, None),
        ({"compile": {"backend": "eager", "dynamic": True}}, None),
        ({"offload": True}, "offload"),
        ({"warp": 9}, "warp"),
    ],
)
def test_a_setting_works_or_is_left_out_with_a_line(folder, settings, left_out, caplog):
    with caplog.at_level(logging.WARNING, "workers.models.speed"):
        engine = engine_for(ModelSpec("m", "1", "sd15", str(folder), options={"speed": settings}))
    lines = [record.getMessage() for record in caplog.records if record.name == "workers.models.speed"]
    assert len(lines) == (1 if left_out else 0)
    assert all(left_out in line for line in lines)
    requests = [sample(model="m@1", seed=1), sample(model="m@1", seed=2, sampler="ddim", steps=2)]
    run = run_to_end(engine, requests, seconds=600)  # compiling takes its time on a busy machine
    assert run.errors == {}
    for request in requests:
        assert worst(run.images[request.sample_id], Stock(folder)(request)) <= 1e-4


def test_large_pictures_are_decoded_in_tiles(folder, monkeypatch):
    monkeypatch.setattr("workers.models.speed.TILE_FROM", 128)
    requests = [sample(model="m@1", seed=1, width=160, height=128, steps=1), sample(model="m@1", seed=2, steps=1)]
    run = run_to_end(engine_for(ModelSpec("m", "1", "sd15", str(folder))), requests)
    whole, small = (Stock(folder)(request) for request in requests)
    tiled = Stock(folder)
    tiled.loaded.vae.enable_tiling()
    assert worst(run.images[requests[0].sample_id], tiled(requests[0])) <= 1e-4
    assert worst(run.images[requests[0].sample_id], whole) > 1e-4
    assert worst(run.images[requests[1].sample_id], small) <= 1e-4
