"""What a GPU worker does beside the engine: rows, files and messages. Called in side threads, so that no forward pass
waits for a disk or a database. Every function may be repeated.
"""

import logging
import time

from django.db import Error, close_old_connections
from prometheus_client import Counter

from generation.tasks import enqueue, results, states
from generation.tasks.models import Status, Task
from generation.tasks.reasons import Code, Reason
from generation.tasks.stages import send_stages
from storage import raw
from storage.errors import StorageError
from workers.gpu import failures
from workers.gpu.held_tasks import HeldTask, Settlement
from workers.gpu.png import encode_png

logger = logging.getLogger(__name__)


RETURNED = Counter("imagegenx_tasks_returned", "Paused tasks that went back to their queue for want of memory.")


def deliver(held: HeldTask, worker: str) -> Settlement:
    """running -> generated: the pictures made durable, the next stages told. Raises their errors."""
    close_old_connections()
    task = held.task
    pictures = {index: encode_png(image) for index, image in held.images.items()}
    for index, png in pictures.items():
        raw.write_raw(task.id, index, task.attempt, png)
    if states.mark_generated(task.id, worker=worker, attempt=task.attempt, warnings=[*task.warnings, *held.warnings]):
        send_stages(str(task.id))
        for index, sample in enumerate(held.samples):
            if sample.cacheable and index not in held.reused:
                results.keep(task.id, sample.identity, results.Result(pictures[index], tuple(held.warnings)))
    return Settlement("ended")


def deliver_patiently(held: HeldTask, worker: str, *, patience: float) -> Settlement:
    """`deliver`, again and again for `patience` seconds while disk or database refuse; then the task goes back."""
    until = time.monotonic() + patience
    while True:
        try:
            return deliver(held, worker)
        except (StorageError, OSError, Error) as error:
            logger.error("pictures of %s are not safe yet: %s", held.id, error)
            if time.monotonic() > until:
                return hand_back(
                    held, worker, Reason(Code.NOT_STORED, f"the pictures could not be kept: {error}"), count=True
                )
            time.sleep(0.5)


def abandon(held: HeldTask, worker: str) -> Settlement:
    """The row of a task that was cancelled, lost or failed here, or that leaves because too much is paused."""
    close_old_connections()
    task = held.task
    if held.ending == "cancelled":
        states.cancel_if_requested(task.id, among=[Status.RUNNING], worker=worker, attempt=task.attempt)
        return Settlement("ended")
    if held.ending == "failed":
        error = held.error or RuntimeError("the engine gave no reason")
        return failures.after_failure(task, worker, error, retryable=held.retryable)
    if held.ending == "returned":
        RETURNED.inc()
        return hand_back(held, worker, Reason(Code.PAUSED_MEMORY, "paused work held too much memory"))
    return Settlement("ended")


def hand_back(held: HeldTask, worker: str, reason: Reason, *, count: bool = False) -> Settlement:
    """running -> queued; `count` says whether the attempt is held against the task."""
    close_old_connections()
    task = held.task
    states.hand_back(task.id, worker=worker, attempt=task.attempt, reason=reason, count_attempt=count)
    return Settlement("waiting")


def after_broken_engine(held: HeldTask, worker: str, reason: Reason) -> Settlement:
    """The device or the engine failed under this task."""
    close_old_connections()
    return failures.after_device_loss(held.task, worker, reason.text, alone=held.claimed.alone)


def enqueue_again(task_id: str) -> None:
    """Makes a row known to the buffer as new: its model, and so its batch key, has changed."""
    close_old_connections()
    enqueue.enqueue(Task.objects.get(pk=task_id))
