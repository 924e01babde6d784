"""Which tasks are claimed, and when, over the real scripts; the rows are won at once, or as late as a test says."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from generation.queue.values import BatchKey
from generation.queue.worker import Claimed, Tick
from workers.engine.requests import SampleId
from workers.gpu import task_claims
from workers.gpu.intake import Intake
from workers.gpu.running_tasks import RunningTask

KEY = BatchKey("mini@1", 256, 256)
STEPS = 20


class Engine:
    """An engine that serves one key; there is room for more of it."""

    warm_key = KEY
    paused_memory_full = False

    def room(self, model: str, width: int, height: int, priority: int) -> int:
        return 8


@pytest.fixture
def intake(make_worker_queue: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Intake]:
    """With `intake.rows_take` seconds until the rows of a claim are won."""

    def claim_rows(claims: tuple[Claimed, ...], worker: str) -> task_claims.ClaimedRows:
        time.sleep(made.rows_take)  # type: ignore[attr-defined]
        return task_claims.ClaimedRows([running_task(claim) for claim in claims])

    monkeypatch.setattr(task_claims, "claim_rows", claim_rows)
    with ThreadPoolExecutor(1) as threads:
        made = Intake(make_worker_queue(), threads)
        made.rows_take = 0.0  # type: ignore[attr-defined]
        yield made


def running_task(claim: Claimed, done: int = 0) -> RunningTask:
    """A task of one sample that has taken some steps."""
    sample: Any = SimpleNamespace(sample_id=SampleId(claim.task_id, 0), steps=STEPS, cacheable=False)
    task = RunningTask(claim, SimpleNamespace(), SimpleNamespace(), (sample,))  # type: ignore[arg-type]
    if done:
        task.to_admit.clear()
        task.admitted.add(sample.sample_id)
        task.done[sample.sample_id] = done / STEPS
    return task


def one_running() -> dict[str, RunningTask]:
    """One task that runs."""
    return {"running": running_task(Claimed("running", 2, KEY, 1, "{}"), done=5)}


def test_a_running_batch_waits_for_the_rows_of_p0(intake, enqueue):
    urgent = enqueue(0)
    intake.rows_take = 0.01
    intake.note_tick(Tick(p0_waits=True, waiting=1, lease_expired=False))
    intake.claim(Engine(), one_running())
    assert [running.id for running in intake.take_claimed().running] == [urgent]


def test_it_does_not_wait_longer_than_a_moment(intake, enqueue):
    enqueue(0)
    intake.rows_take = 0.3
    intake.note_tick(Tick(p0_waits=True, waiting=1, lease_expired=False))
    intake.claim(Engine(), one_running())
    begun = time.monotonic()
    assert not intake.take_claimed().running
    assert not intake.take_claimed().running  # and only once
    assert time.monotonic() - begun < 0.2
    assert intake.take_claimed(wait=True).running


def test_nobody_waits_for_the_rows_of_others(intake, enqueue):
    enqueue()
    intake.rows_take = 0.3
    intake.claim(Engine(), one_running())
    begun = time.monotonic()
    assert not intake.take_claimed().running
    assert time.monotonic() - begun < 0.1
