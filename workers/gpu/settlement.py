"""Settles what became of a task on this worker: its row, then its entry in the buffer, then its ticket.

    outcome             row                                          entry
    finished            generated, with its pictures                 ended        (persistence.py)
    cancelled           cancelled                                    ended
    failed              queued | queued on the fallback | failed     alone | moved | ended     (failures.py)
    device_lost         queued | failed                              alone | ended             (failures.py)
    returned, stopped   queued, the attempt not counted              waiting
    not_stored          queued                                       waiting
    exhausted           failed                                       ended
    not_runnable        cancelled if that was asked for              ended
    unclaimed           as it is                                     waiting
    taken_over          as it is                                     as it is

The ticket is acknowledged, or requeued if the task runs again under it.
"""

import logging
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from uuid import UUID

from django.conf import settings
from django.db import close_old_connections
from prometheus_client import Counter

from generation.queue.values import Release
from generation.queue.worker import Claimed, WorkerQueue
from generation.tasks import enqueue, states
from generation.tasks.models import Status, Task
from generation.tasks.reasons import Code, Reason
from workers.engine.errors import ModelUnavailable
from workers.gpu import failures, model_health, persistence, run_spans
from workers.gpu.outcomes import End, Outcome
from workers.gpu.running_tasks import RunningTask
from workers.gpu.ticket_holder import TicketHolder

logger = logging.getLogger(__name__)
RETURNED = Counter("imagegenx_tasks_returned", "Paused tasks that were requeued for want of memory.")


class Settler:
    """Used by the engine thread. Rows are moved in side threads; entries wait here while Redis is out of reach."""

    def __init__(self, queue: WorkerQueue, tickets: TicketHolder, threads: ThreadPoolExecutor, patience: float) -> None:
        """`patience`: seconds in which finished pictures must become durable."""
        self.queue, self.tickets = queue, tickets
        self._threads, self._patience = threads, patience
        self._moving: dict[Future[Release], RunningTask] = {}
        self._entries: deque[tuple[Claimed, Release]] = deque()

    @property
    def moving_rows(self) -> bool:
        return bool(self._moving)

    @property
    def idle(self) -> bool:
        """No row is being moved, and every entry was released in Redis."""
        return not self._moving and not self._entries

    def settle(self, running: RunningTask) -> None:
        """Begins to settle a task whose outcome is known; `take_settled` says when its row is done."""
        running.settling = True
        release = self._threads.submit(self._settle, running)
        release.add_done_callback(lambda _: self.tickets.wake())  # the engine thread may sleep
        self._moving[release] = running

    def settle_now(self, running: RunningTask, outcome: Outcome) -> None:
        """The same in this thread, for a worker that ends."""
        run_spans.record_run(running, outcome)
        try:
            release = settle_row(running.claimed, running.task, outcome, self.queue.config.worker)
        except Exception:
            logger.exception("row of %s is left to the reconciler", running.id)
            release = Release.WAITING
        self._release(running, release)

    def take_settled(self) -> list[str]:
        """Ids of the tasks whose rows have been moved since the last call: they have left this worker."""
        done = [future for future in self._moving if future.done()]
        return [self._collect(future) for future in done]

    def release_entry(self, claimed: Claimed, release: Release) -> None:
        """Keeps what an entry becomes until `release_entries`."""
        if release is not Release.TAKEN_OVER:
            self._entries.append((claimed, release))

    def release_entries(self) -> None:
        """Releases them in Redis. Raises redis.RedisError; what was not released waits for the next call."""
        while self._entries:
            claimed, release = self._entries[0]
            self.queue.settle(claimed, release)
            if release is Release.MOVED:
                self._threads.submit(_enqueue_again, claimed.task_id)
            self._entries.popleft()

    def _settle(self, running: RunningTask) -> Release:
        worker = self.queue.config.worker
        outcome = running.outcome or Outcome(End.FINISHED)
        run_spans.record_run(running, outcome)
        if outcome.end is End.FINISHED:
            outcome = persistence.persist_with_retries(running, worker, self._patience)
        return settle_row(running.claimed, running.task, outcome, worker)

    def _collect(self, future: Future[Release]) -> str:
        running, error = self._moving.pop(future), future.exception()
        if error is not None:
            logger.error("task %s is left to the reconciler: %s", running.id, error, exc_info=error)
        self._release(running, Release.WAITING if error is not None else future.result())
        return running.id

    def _release(self, running: RunningTask, release: Release) -> None:
        self.release_entry(running.claimed, release)
        self.tickets.release(running.id, runs_again=release.runs_again)


def settle_row(claimed: Claimed, task: Task | None, outcome: Outcome, worker: str) -> Release:
    """Moves the row of a claimed task and answers what its entry becomes. `task` is the row as this worker won it, None
    if it did not.
    """
    close_old_connections()
    if task is None:
        if outcome.end is not End.NOT_RUNNABLE:
            return Release.WAITING
        states.cancel_if_requested(UUID(claimed.task_id), among=[Status.QUEUED, Status.RUNNING])
        return Release.ENDED
    match outcome.end:
        case End.FINISHED:
            return Release.ENDED
        case End.TAKEN_OVER:
            return Release.TAKEN_OVER
        case End.CANCELLED:
            states.cancel_if_requested(task.id, among=[Status.RUNNING], worker=worker, attempt=task.attempt)
            return Release.ENDED
        case End.FAILED:
            return _settle_failure(task, outcome, worker)
        case End.DEVICE_LOST:
            return _settle_device_loss(task, outcome, worker, alone=claimed.alone)
        case End.EXHAUSTED:
            message = f"The task was begun {settings.MAX_ATTEMPTS} times and never finished."
            states.fail(task.id, code="too_many_attempts", message=message, worker=worker, attempt=task.attempt)
            return Release.ENDED
    return _requeue(task, outcome, worker)


def _settle_failure(task: Task, outcome: Outcome, worker: str) -> Release:
    error = outcome.error or RuntimeError("the engine gave no reason")
    if isinstance(error, ModelUnavailable):
        model_health.note_failed(task.drawing_model, error)
    text = model_health.for_customers(error, task.drawing_model)
    cause = f"inference failed: {type(error).__name__}: {text}"
    fallback = failures.usable_fallback(task)
    release = failures.after_failure(task.history, retryable=outcome.retryable, has_fallback=fallback is not None)
    if release is Release.ALONE:
        reason = Reason(Code.INFERENCE_FAILED, cause)
        states.requeue(task.id, worker=worker, attempt=task.attempt, reason=reason)
    elif release is Release.MOVED and fallback is not None:
        if not states.fall_back(task, fallback, worker=worker, attempt=task.attempt, cause=cause):
            return Release.ENDED
    else:
        code = getattr(error, "code", "inference_failed") if outcome.retryable else "invalid_request"
        states.fail(task.id, code=code, message=text, worker=worker, attempt=task.attempt)
    return release


def _settle_device_loss(task: Task, outcome: Outcome, worker: str, *, alone: bool) -> Release:
    """Unlike a stop it counts as an attempt."""
    cause = f"the device or the engine failed: {outcome.error}"
    release = failures.after_device_loss(task.history, alone=alone)
    if release is Release.ENDED:
        message = f"The task lost its device twice while it ran alone ({cause})."
        states.fail(task.id, code="worker_crashed", message=message, worker=worker, attempt=task.attempt)
        return release
    reason = Reason(Code.DEVICE_LOST, cause)
    if alone:
        reason = Reason(Code.DEVICE_LOST_ALONE, f"lost its device while it ran alone: {cause}")
    states.requeue(task.id, worker=worker, attempt=task.attempt, reason=reason)
    return release


def _requeue(task: Task, outcome: Outcome, worker: str) -> Release:
    """running -> queued, through no fault of the task."""
    if outcome.end is End.RETURNED:
        RETURNED.inc()
        reason = Reason(Code.PAUSED_MEMORY, "paused work held too much memory")
    elif outcome.end is End.NOT_STORED:
        reason = Reason(Code.NOT_STORED, f"the pictures could not be kept: {outcome.error}")
    else:
        reason = Reason(Code.STOPPED, "the worker was stopped")
    count = outcome.end is End.NOT_STORED
    states.requeue(task.id, worker=worker, attempt=task.attempt, reason=reason, count_attempt=count)
    return Release.WAITING


def _enqueue_again(task_id: str) -> None:
    """Under the row's new batch key, with a new ticket."""
    close_old_connections()
    enqueue.enqueue(Task.objects.get(pk=task_id))
