"""Speed settings change times, not pictures; what is missing here falls back with a log line. Calibration."""

import logging

import pytest

from workers.engine import Engine, ModelPool, ModelSpec, PoolConfig
from workers.engine.calibration import CalibrationTable, knee, measure_step
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
    run = run_to_end(engine, requests)
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


@pytest.mark.parametrize(
    ("fixed", "each", "expected"),
    [(10.0, 1.0, 16), (0.0, 1.0, 1), (1.0, 10.0, 1), (6.0, 26.0, 2), (22.0, 4.2, 16)],
)
def test_the_knee_of_a_linear_cost(fixed, each, expected):
    """Where another row no longer lowers the time per row by 5 %."""
    assert knee(lambda samples: fixed + each * samples) == expected


def test_the_knee_stops_where_memory_ends():
    assert knee(lambda samples: None if samples > 4 else 10.0 + samples) == 4


def test_a_calibration_is_measured_once_and_remembered(folder, tmp_path):
    pool = ModelPool(PoolConfig(device="cpu"))
    pool.ensure(ModelSpec("m", "1", "sd15", str(folder)))
    request = sample(model="m@1")
    assert measure_step(pool, request, 2) > 0
    rows = CalibrationTable(tmp_path / "rows.json").rows(pool, request, "fp32")
    assert rows in (2, 4, 6, 8, 12, 16, 24, 32)
    assert "m@1|64x64|fp32|cpu" in (tmp_path / "rows.json").read_text()
    pool.close()
    assert CalibrationTable(tmp_path / "rows.json").rows(pool, request, "fp32") == rows, "without any model"
    engine = Engine(pool)
    engine.limits.calibrate(request.batch_key, rows)
    assert engine.room("m@1", 64, 64, 2) == rows // 2
