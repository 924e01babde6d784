"""Who may come on board, and when, over the real scripts; the rows are won at once, or as late as a test says."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from generation.queue.buffer import Claimed, Tick
from generation.queue.values import BatchKey
from workers.engine.requests import SampleId
from workers.gpu import rows
from workers.gpu.held_tasks import HeldTask
from workers.gpu.intake import Intake

KEY = BatchKey("mini@1", 256, 256)
STEPS = 20


class Roomy:
    """An engine that serves one key; there is room for more of it."""

    warm_key = KEY
    full_of_paused = False

    def room(self, model: str, width: int, height: int, priority: int) -> int:
        return 8


@pytest.fixture
def intake(make_buffer: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Intake]:
    """With `intake.rows_take` seconds until the rows of a claim are won."""

    def board(claims: tuple[Claimed, ...], worker: str) -> rows.Boarded:
        time.sleep(made.rows_take)  # type: ignore[attr-defined]
        return rows.Boarded(tuple(held_task(claim) for claim in claims))

    monkeypatch.setattr(rows, "board", board)
    with ThreadPoolExecutor(1) as threads:
        made = Intake(make_buffer(), threads)
        made.rows_take = 0.0  # type: ignore[attr-defined]
        yield made


def held_task(claim: Claimed, done: int = 0) -> HeldTask:
    """A task of one sample that has taken some steps on board."""
    sample: Any = SimpleNamespace(sample_id=SampleId(claim.task_id, 0), steps=STEPS, cacheable=False)
    task = HeldTask(claim, SimpleNamespace(), SimpleNamespace(), (sample,))  # type: ignore[arg-type]
    if done:
        task.to_admit.clear()
        task.on_board.add(sample.sample_id)
        task.done[sample.sample_id] = done / STEPS
    return task


def on_board() -> dict[str, HeldTask]:
    """One task that runs."""
    return {"held": held_task(Claimed("held", 2, KEY, 1, "{}"), done=5)}


def test_a_running_batch_waits_for_the_rows_of_p0(intake, enqueue):
    urgent = enqueue(0)
    intake.rows_take = 0.01
    intake.heard(Tick(p0_waits=True, waiting=1, stranger_died=False, verdicts={}))
    intake.claim(Roomy(), on_board())
    assert [held.id for held in intake.boarded().held] == [urgent]


def test_it_does_not_wait_longer_than_a_moment(intake, enqueue):
    enqueue(0)
    intake.rows_take = 0.3
    intake.heard(Tick(p0_waits=True, waiting=1, stranger_died=False, verdicts={}))
    intake.claim(Roomy(), on_board())
    begun = time.monotonic()
    assert not intake.boarded().held
    assert not intake.boarded().held  # and only once
    assert time.monotonic() - begun < 0.2
    assert intake.boarded(wait=True).held


def test_nobody_waits_for_the_rows_of_others(intake, enqueue):
    enqueue()
    intake.rows_take = 0.3
    intake.claim(Roomy(), on_board())
    begun = time.monotonic()
    assert not intake.boarded().held
    assert time.monotonic() - begun < 0.1
