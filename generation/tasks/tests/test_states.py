"""Every legal move of the table is made, every other one is refused, and of two who try one wins."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from generation.tasks import stages, states
from generation.tasks.models import OPEN, TERMINAL, Status, Task
from generation.tasks.reasons import Code, Reason
from generation.tasks.states import MOVES

WORKER, OWNER = "gpu1-1", "cpu1-1"
MakeTask = Callable[..., Task]


def move(task: Task, to: str, source: str) -> bool:
    """Make the move by the function that owns it, with the right fence; whether it was made."""
    if to == Status.RUNNING:
        return bool(states.claim([task.id], "gpu2-1"))
    if to == Status.QUEUED:
        return states.requeue(task.id, worker=WORKER, attempt=1, reason=Reason(Code.STOPPED, "worker stops"))
    if to == Status.GENERATED:
        return states.mark_generated(task.id, worker=WORKER, attempt=1)
    if to == Status.PROCESSED:
        return states.mark_processed(task.id, owner=OWNER)
    if to == Status.STORED:
        return states.mark_stored(task.id, owner=OWNER)
    if to == Status.SUCCEEDED:
        return states.mark_succeeded(task.id, owner=OWNER)
    if to == Status.FAILED:
        return states.fail(task.id, code="broken", message="It broke.")
    if to == Status.CANCELLED:
        Task.objects.filter(pk=task.id).update(cancel_requested=True)
        return states.cancel_if_requested(task.id)
    return bool(states.expire_due())


def in_state(make_task: MakeTask, source: str, to: str) -> Task:
    """A task in the state, held by those who could move it."""
    late = timezone.now() - timedelta(seconds=1)
    fields = {"worker": WORKER, "attempt": 1, "stage_owner": OWNER}
    return make_task(source, **fields, **({"expires_at": late} if to == Status.EXPIRED else {}))


PAIRS = [(source, to) for source in Status.values for to in Status.values]


@pytest.mark.parametrize(("source", "to"), PAIRS, ids=lambda state: str(state))
def test_a_move_is_made_exactly_when_the_table_has_it(make_task: MakeTask, source: str, to: str) -> None:
    task = in_state(make_task, source, to)
    moved = move(task, to, source)
    task.refresh_from_db()
    assert moved == (to in MOVES[Status(source)])
    assert task.status == (to if moved else source)
    assert len(task.history) == (1 if moved else 0)


def test_the_table_covers_every_state_and_ends_have_no_way_out() -> None:
    assert set(MOVES) == set(Status.values)
    assert set(OPEN) | set(TERMINAL) == set(Status.values)
    assert all(not MOVES[state] for state in TERMINAL)
    assert all(MOVES[state] for state in OPEN)


def test_a_claim_counts_the_attempt_before_the_work(make_task: MakeTask) -> None:
    task = make_task()
    (claimed,) = states.claim([task.id], WORKER)
    assert (claimed.status, claimed.attempt, claimed.worker) == ("running", 1, WORKER)
    assert claimed.history[-1]["attempt"] == 1
    assert claimed.started_at is not None


def test_a_claim_leaves_out_what_is_cancelled_or_too_late(make_task: MakeTask) -> None:
    good = make_task()
    cancelled = make_task(cancel_requested=True)
    late = make_task(
        expires_at=timezone.now() - timedelta(minutes=5)
    )  # the database's now is the start of its transaction
    assert [task.id for task in states.claim([good.id, cancelled.id, late.id], WORKER)] == [good.id]


@pytest.mark.parametrize("fence", [{"worker": "gpu9-9", "attempt": 1}, {"worker": WORKER, "attempt": 2}])
def test_a_worker_that_lost_its_claim_moves_nothing(make_task: MakeTask, fence: dict) -> None:
    task = make_task(Status.RUNNING, worker=WORKER, attempt=1)
    assert not states.mark_generated(task.id, **fence)
    assert not states.requeue(task.id, reason=Reason(Code.STOPPED, ""), **fence)
    assert not states.fail(task.id, code="x", message="x", **fence)
    task.refresh_from_db()
    assert task.status == "running"


def test_of_two_claimers_at_once_one_can_finish_each_task(transactional_db: None, make_task: MakeTask) -> None:
    ids = [make_task().id for _ in range(20)]
    barrier, held = threading.Barrier(2), []

    def run(name: str) -> None:
        barrier.wait()
        for task_id in ids:
            held.extend(states.claim([task_id], name))
        connection.close()

    threads = [threading.Thread(target=run, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    finished = [task.id for task in held if states.mark_generated(task.id, worker=task.worker, attempt=task.attempt)]
    assert sorted(finished) == sorted(ids)


def test_of_two_stage_workers_one_gets_the_lease_until_it_ends(make_task: MakeTask) -> None:
    task = make_task(Status.GENERATED)
    assert states.take_stage(task.id, stages.named("postprocess"), "first", 60) is not None
    assert states.take_stage(task.id, stages.named("postprocess"), "second", 60) is None
    Task.objects.filter(pk=task.id).update(stage_until=timezone.now() - timedelta(seconds=1))
    assert states.take_stage(task.id, stages.named("postprocess"), "second", 60) is not None
    assert not states.mark_processed(task.id, owner="first")
    assert states.mark_processed(task.id, owner="second")


def test_a_stage_is_not_begun_for_a_task_whose_cancel_was_asked_for(make_task: MakeTask) -> None:
    task = make_task(Status.PROCESSED, cancel_requested=True)
    assert states.take_stage(task.id, stages.named("upload"), OWNER, 60) is None
    task.refresh_from_db()
    assert task.status == "cancelled"


def test_a_cancel_ends_a_waiting_task_at_once_and_only_marks_a_running_one(make_task: MakeTask) -> None:
    waiting, running = make_task(), make_task(Status.RUNNING, worker=WORKER, attempt=1)
    assert states.request_cancel(waiting.id) is False
    assert states.request_cancel(running.id) is True
    waiting.refresh_from_db()
    running.refresh_from_db()
    assert (waiting.status, running.status, running.cancel_requested) == ("cancelled", "running", True)


def test_an_end_and_its_delivery_are_written_together(make_task: MakeTask) -> None:
    task = make_task(callback_url="https://shop.example/hook")
    assert states.fail(task.id, code="out_of_memory", message="The picture is too large for this device.")
    (delivery,) = task.deliveries.all()
    assert (delivery.event_type, delivery.url, delivery.state) == (
        "task.failed",
        "https://shop.example/hook",
        "pending",
    )
