"""Batch limits are learnt from the steps that are made anyway, and remembered."""

import json

import pytest
import torch

from generation.queue.values import BatchKey
from workers.engine import Engine, EngineConfig
from workers.engine.batching.calibration import DECODE, DENOISE, MIN_PASSES, CalibrationTable, Calibrator, knee
from workers.engine.batching.limits import RECOVER_AFTER
from workers.engine.batching.row_tuner import CHECK_EVERY
from workers.engine.tests.driving import run_to_end, sample
from workers.engine.threads import engine_threads

CPU = torch.device("cpu")
ROWS = (2, 4, 8, 16, 32)


@pytest.mark.parametrize(
    ("fixed", "each", "expected"),
    [(10.0, 1.0, 32), (0.0, 1.0, 2), (1.0, 10.0, 2), (6.0, 13.0, 8), (22.0, 2.1, 32)],
)
def test_the_knee_is_the_smallest_batch_that_is_nearly_as_good_as_the_best(fixed, each, expected):
    assert knee({rows: fixed + each * rows for rows in ROWS}) == expected


def calibrator(tmp_path, **how):
    return Calibrator(CalibrationTable(tmp_path / "rows.json"), CPU, **how)


def learn(watching, cost, rows=ROWS, passes=MIN_PASSES, ceiling=32):
    """The limit concluded from passes that cost so much, None if nothing was."""
    found = [watching.record(BatchKey("m@1", 64, 64), "fp32", n, cost(n), ceiling) for n in rows for _ in range(passes)]
    return next((limit for limit in found if limit is not None), None)


def test_a_limit_is_concluded_once_enough_was_seen_and_remembered(tmp_path):
    watching = calibrator(tmp_path)
    assert watching.known(BatchKey("m@1", 64, 64), "fp32") is None
    assert learn(watching, lambda rows: 6 + 13 * rows) == 8
    assert list(json.loads((tmp_path / "rows.json").read_text()).values()) == [8]
    later = calibrator(tmp_path)
    assert later.known(BatchKey("m@1", 64, 64), "fp32") == 8
    assert later.known(BatchKey("m@1", 64, 64), "bf16") is None
    assert later.known(BatchKey("m@1", 72, 64), "fp32") is None
    assert later.known(BatchKey("m@2", 64, 64), "fp32") is None


@pytest.mark.parametrize("how", [{"rows": ROWS[:4]}, {"rows": (16, 32)}, {"passes": MIN_PASSES - 1}])
def test_nothing_is_concluded_from_small_batches_or_few_passes(tmp_path, how):
    assert learn(calibrator(tmp_path), lambda rows: 0.1 + rows / 1000, **how) is None


def allowed(cost, measured, ceiling=32, part=DENOISE, **how):
    """Rows that a pass may have after passes of so many rows, which cost so much."""
    watching = Calibrator(CalibrationTable("/nowhere/rows.json"), CPU, **how)
    key = BatchKey("m@1", 64, 64)
    for rows in measured:
        for _ in range(2):
            watching.record(key, "fp32", rows, cost(rows), ceiling, part)
    return watching.allowed(key, "fp32", ceiling, part)


def test_a_size_begins_with_small_batches():
    assert allowed(lambda rows: rows, ()) == 4
    assert allowed(lambda rows: rows, (), part=DECODE) == 1
    assert allowed(lambda rows: rows, (), ceiling=2) == 2


def test_batches_are_doubled_as_long_as_a_pass_stays_short():
    quick = {"cost": lambda rows: 0.01 * rows, "step_max_s": 0.2}
    assert [allowed(measured=ROWS[1:count], **quick) for count in range(1, 6)] == [4, 8, 16, 16, 16]


def test_a_long_pass_takes_more_rows_only_if_they_become_cheaper():
    dear = {"measured": (2, 4, 8, 16), "step_max_s": 0.01}
    assert allowed(lambda rows: 0.1 * rows, **dear) == 4
    assert allowed(lambda rows: 1 + 0.1 * rows, **dear) == 32


def test_where_nothing_smaller_was_measured_the_next_size_is_tried_once():
    assert allowed(lambda rows: rows, (4,)) == 8
    assert allowed(lambda rows: rows, (4, 8)) == 4


def test_decoders_are_measured_apart(tmp_path):
    watching, key = calibrator(tmp_path), BatchKey("m@1", 64, 64)
    for rows in (1, 2):
        for _ in range(MIN_PASSES):
            watching.record(key, "fp32", rows, rows, 16, DECODE)
    assert watching.known(key, "fp32", DECODE) == 1
    assert watching.known(key, "fp32") is None


def test_a_disturbed_pass_changes_nothing(tmp_path):
    times = iter([100.0, *[1.0] * (MIN_PASSES - 1)] * len(ROWS))
    assert learn(calibrator(tmp_path), lambda rows: next(times) * (6 + 13 * rows)) == 8


def test_where_batches_gain_nothing_two_samples_still_share(tmp_path):
    assert learn(calibrator(tmp_path), lambda rows: rows) == DENOISE.least_rows


def test_two_workers_keep_each_others_limits_and_a_broken_file_is_measured_anew(tmp_path, caplog):
    one, other = (CalibrationTable(tmp_path / "rows.json") for _ in range(2))
    one.put("a", 4)
    other.put("b", 8)
    assert json.loads((tmp_path / "rows.json").read_text()) == {"a": 4, "b": 8}
    (tmp_path / "rows.json").write_text("{")
    assert CalibrationTable(tmp_path / "rows.json").get("a") is None
    assert "measured anew" in caplog.text


def test_an_engine_learns_its_limit_from_its_own_passes(mini_pool, tmp_path):
    heavy = mini_pool.get("mini@1").heavy["unet"]
    real, now = heavy.run, [0.0]

    def costs(**arguments):
        now[0] += 6 + 13 * len(arguments["sample"])
        return (torch.zeros_like(arguments["sample"]),)

    heavy.run = costs
    try:
        watching = calibrator(tmp_path, clock=lambda: now[0])
        engine = Engine(mini_pool, EngineConfig(batch_limits={512: 8}), watching)
        for count in (1, 2, 4, 8):
            run_to_end(engine, [sample(steps=MIN_PASSES) for _ in range(count)])
        assert engine.room("mini@1", 64, 64, 2) == 4
        again = Engine(mini_pool, EngineConfig(batch_limits={512: 8}), calibrator(tmp_path))
        assert again.room("mini@1", 64, 64, 2) == 2, "a size begins with small batches"
        run_to_end(again, [sample(steps=1)])
        assert again.room("mini@1", 64, 64, 2) == 4, "recalled when the first of its size starts"
    finally:
        heavy.run = real


def test_a_nearly_full_memory_lowers_the_limit_and_room_raises_it(mini_pool, monkeypatch, caplog):
    full = [0.5]
    monkeypatch.setattr(mini_pool, "memory_load", lambda: full[0])
    heavy = mini_pool.get("mini@1").heavy["unet"]
    monkeypatch.setattr(heavy, "run", lambda **arguments: (torch.zeros_like(arguments["sample"]),))
    engine = Engine(mini_pool)
    run_to_end(engine, [sample(steps=CHECK_EVERY) for _ in range(4)])
    assert engine.room("mini@1", 64, 64, 2) == 16
    full[0] = 0.95
    run_to_end(engine, [sample(steps=CHECK_EVERY) for _ in range(4)])
    assert engine.room("mini@1", 64, 64, 2) == 2
    assert "memory is 95% full" in caplog.text
    full[0] = 0.5
    run_to_end(engine, [sample(steps=100) for _ in range(1 + RECOVER_AFTER * 3 // 100)], seconds=240)
    assert engine.room("mini@1", 64, 64, 2) > 2


def test_threads_are_those_that_the_process_may_use(monkeypatch, tmp_path):
    assert 1 <= engine_threads(CPU) <= torch.get_num_threads()
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr("workers.engine.threads._QUOTA", quota)
    monkeypatch.setattr("workers.engine.threads.torch.get_num_threads", lambda: 64)
    monkeypatch.setattr("workers.engine.threads.os.sched_getaffinity", lambda _: set(range(32)))
    for text, expected in (("150000 100000", 2), ("max 100000", 32), ("", 32)):
        quota.write_text(text)
        assert engine_threads(CPU) == expected
    assert engine_threads(torch.device("cuda")) == 4


def test_room_is_asked_for_a_model_before_its_first_task_is_here(mini_pool, tmp_path):
    engine = Engine(mini_pool, calibrator=calibrator(tmp_path))
    assert engine.room("unheard@1", 512, 512, 2) == DENOISE.least_rows // 2
