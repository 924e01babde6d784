"""Every outcome of a task moves its row, its entry and its ticket."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings
from redis.exceptions import ConnectionError as NoRedis

from fixtures.fleet import submit
from generation.queue.values import EntryState, Release
from generation.queue.worker import WorkerQueue, WorkerQueueConfig
from generation.tasks.models import Task
from imagegenx_site import redis_clients
from workers.engine.errors import NotFinite
from workers.gpu import persistence, task_claims
from workers.gpu.outcomes import End, Outcome
from workers.gpu.settlement import Settler, settle_row
from workers.gpu.ticket_holder import TicketEnd, TicketHolder

WORKER = "gpu1-a"


@pytest.fixture
def queue(user):
    """A living worker's."""
    config = WorkerQueueConfig(worker=WORKER, own_queue="dq.gpu1", window_ms=0)
    return WorkerQueue(redis_clients.connect(settings.REDIS_URL, 5), config)


def claim(queue, user):
    """One task whose row this worker has won."""
    submit(user)
    (running,) = task_claims.claim_rows(queue.claim(1).tasks, WORKER).running
    return running


@pytest.mark.parametrize(
    ("outcome", "release", "status", "code", "attempt"),
    [
        (Outcome(End.TAKEN_OVER), Release.TAKEN_OVER, "running", None, 1),
        (Outcome(End.STOPPED), Release.WAITING, "queued", "stopped", 0),
        (Outcome(End.RETURNED), Release.WAITING, "queued", "paused_memory", 0),
        (Outcome(End.NOT_STORED, OSError("disk full")), Release.WAITING, "queued", "not_stored", 1),
        (Outcome(End.DEVICE_LOST, OSError("gone")), Release.ALONE, "queued", "device_lost", 1),
        (Outcome(End.FAILED, ValueError("no")), Release.ALONE, "queued", "inference_failed", 1),
        (Outcome(End.FAILED, NotFinite("latent")), Release.ALONE, "queued", "inference_failed", 1),
        (Outcome(End.FAILED, ValueError("no"), retryable=False), Release.ENDED, "failed", "invalid_request", 1),
        (Outcome(End.EXHAUSTED), Release.ENDED, "failed", "too_many_attempts", 1),
    ],
    ids=lambda value: str(value.end) if isinstance(value, Outcome) else None,
)
def test_the_row_moves_as_the_outcome_says(queue, user, outcome, release, status, code, attempt):
    running = claim(queue, user)
    assert settle_row(running.claimed, running.task, outcome, WORKER) is release
    task = Task.objects.get(pk=running.task.pk)
    assert (task.status, task.history[-1].get("code"), task.attempt) == (status, code, attempt)


def test_a_picture_that_is_not_finite_fails_at_the_second_try_with_a_code_and_what_to_do(queue, user):
    first = claim(queue, user)
    assert settle_row(first.claimed, first.task, Outcome(End.FAILED, NotFinite("latent")), WORKER) is Release.ALONE
    queue.settle(first.claimed, Release.ALONE)
    (again,) = task_claims.claim_rows(queue.claim(1).tasks, WORKER).running
    assert settle_row(again.claimed, again.task, Outcome(End.FAILED, NotFinite("latent")), WORKER) is Release.ENDED
    task = Task.objects.get(pk=first.task.pk)
    assert (task.status, task.error_code) == ("failed", "not_finite")
    assert "not numbers" in task.error_message


def test_a_cancelled_task_ends_if_its_cancel_was_asked_for(queue, user):
    running = claim(queue, user)
    Task.objects.filter(pk=running.task.pk).update(cancel_requested=True)
    assert settle_row(running.claimed, running.task, Outcome(End.CANCELLED), WORKER) is Release.ENDED
    assert Task.objects.get(pk=running.task.pk).status == "cancelled"


def test_a_row_that_was_not_won_is_cancelled_if_that_was_asked_for_and_else_left(queue, user):
    (task_id,) = submit(user)
    (claimed,) = queue.claim(1).tasks
    assert settle_row(claimed, None, Outcome(End.UNCLAIMED), WORKER) is Release.WAITING
    assert settle_row(claimed, None, Outcome(End.NOT_RUNNABLE), WORKER) is Release.ENDED
    assert Task.objects.get(pk=task_id).status == "queued"
    Task.objects.filter(pk=task_id).update(cancel_requested=True)
    assert settle_row(claimed, None, Outcome(End.NOT_RUNNABLE), WORKER) is Release.ENDED
    assert Task.objects.get(pk=task_id).status == "cancelled"


@pytest.fixture
def tickets(queue):
    return TicketHolder(queue)


@pytest.fixture
def settler(queue, tickets):
    with ThreadPoolExecutor(1) as threads:
        yield Settler(queue, tickets, threads, patience=0.0)


def held_ticket(tickets, running):
    """A ticket thread that waits; its answer comes into the list."""
    answers: list[TicketEnd] = []
    tickets.hold(running.id)
    thread = threading.Thread(target=lambda: answers.append(tickets.wait(running.id)))
    thread.start()
    return thread, answers


def settled(settler):
    while not (ids := settler.take_settled()):
        pass
    return ids


@pytest.mark.parametrize(
    ("end", "state", "ticket_end"),
    [
        (End.CANCELLED, EntryState.ENDED, TicketEnd.NOT_NEEDED),
        (End.RETURNED, EntryState.WAITING, TicketEnd.RUNS_AGAIN),
        (End.TAKEN_OVER, EntryState.RUNNING, TicketEnd.NOT_NEEDED),
    ],
)
def test_entry_and_ticket_follow_the_row(queue, user, tickets, settler, end, state, ticket_end):
    running = claim(queue, user)
    thread, answers = held_ticket(tickets, running)
    running.end(Outcome(end))
    assert running.settleable
    settler.settle(running)
    assert not running.settleable
    assert settled(settler) == [running.id]
    thread.join(5)
    assert answers == [ticket_end]
    settler.release_entries()
    assert settler.idle
    assert queue.state(running.id)[0] is state


def test_entries_wait_while_redis_is_out_of_reach(queue, user, settler, monkeypatch):
    running = claim(queue, user)
    settler.settle_now(running, Outcome(End.STOPPED))
    with monkeypatch.context() as away:
        away.setattr(queue, "settle", lambda *_: (_ for _ in ()).throw(NoRedis()))
        with pytest.raises(NoRedis):
            settler.release_entries()
    assert not settler.idle
    settler.release_entries()
    assert settler.idle
    assert queue.state(running.id)[0] is EntryState.WAITING


def test_pictures_that_cannot_be_kept_send_the_task_back(queue, user, settler, monkeypatch):
    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr(persistence, "persist_pictures", refuse)
    running = claim(queue, user)
    running.end(Outcome(End.FINISHED))
    settler.settle(running)
    settled(settler)
    assert Task.objects.get(pk=running.task.pk).history[-1]["reason"] == "the pictures could not be kept: disk full"


def test_a_ticket_without_a_task_here_is_acknowledged_and_all_go_back_at_the_end(queue, user, tickets):
    assert tickets.wait("0198aaaa-0000-7000-8000-000000000001") is TicketEnd.NOT_NEEDED, "nobody knows this task"
    running = claim(queue, user)
    thread, answers = held_ticket(tickets, running)
    tickets.close()
    thread.join(5)
    assert answers == [TicketEnd.RUNS_AGAIN]
