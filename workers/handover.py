"""What a GPU worker does beside the engine: rows, files and messages. Called in side threads, so that no forward pass
waits for a disk or a database. Every function may be repeated.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import cv2
import numpy as np
from celery import chain, signature
from django.conf import settings
from django.db import Error, close_old_connections
from kombu.exceptions import OperationalError
from prometheus_client import Counter

from generation import alerts, lifecycle, results, services
from generation.models import Alert, Status, Task
from storage import raw
from storage.errors import StorageError
from workers import failures
from workers.buffer import Claimed
from workers.held_tasks import HeldTask, Settlement
from workers.samples import PAUSED_TOO_MUCH, samples_of, spec_of

logger = logging.getLogger(__name__)
STAGES = (("postprocess", "cpu"), ("upload", "io"), ("notify", "io"))  # function and queue, in order
LATE = "late"  # queue of enlargements after delivery: processes of their own, so that first versions never wait for one
RETURNED = Counter("imagegenx_tasks_returned", "Paused tasks that went back to their queue for want of memory.")
PNG_EFFORT = [cv2.IMWRITE_PNG_COMPRESSION, 1]  # written once, read once: speed before size


@dataclass(frozen=True)
class Boarded:
    """What came of claims: tasks whose rows this worker won, and claims that came to nothing."""

    held: tuple[HeldTask, ...] = ()
    refused: tuple[Claimed, ...] = field(default=())


def board(claims: Sequence[Claimed], worker: str) -> Boarded:
    """queued -> running for claimed tasks, and their samples. Raises django.db.Error without Postgres."""
    close_old_connections()
    rows = {str(task.id): task for task in lifecycle.claim([UUID(claim.task_id) for claim in claims], worker)}
    held, refused = [], []
    for claim in claims:
        task = rows.get(claim.task_id)
        if task is None:
            lifecycle.cancel_if_requested(UUID(claim.task_id), among=[Status.QUEUED, Status.RUNNING])
            refused.append(claim)
        elif task.attempt > settings.MAX_ATTEMPTS:
            message = f"The task was begun {settings.MAX_ATTEMPTS} times and never finished."
            lifecycle.fail(task.id, code="too_many_attempts", message=message, worker=worker, attempt=task.attempt)
            refused.append(claim)
        else:
            try:
                held.append(_held(claim, task))
            except Exception as error:
                logger.exception("task cannot be prepared", extra={"task_id": claim.task_id})
                failures.after_failure(task, worker, error, retryable=False)
                refused.append(claim)
    return Boarded(tuple(held), tuple(refused))


def _held(claim: Claimed, task: Task) -> HeldTask:
    """The task's samples, and those of their pictures that an identical request has left."""
    samples = samples_of(task, alone=claim.alone)
    known = results.find(task.id, [sample.identity for sample in samples if sample.cacheable])
    found = {index: known[one.identity] for index, one in enumerate(samples) if one.cacheable and one.identity in known}
    images = {index: _pixels(result.png) for index, result in found.items()}
    warnings = dict.fromkeys(warning for result in found.values() for warning in result.warnings)
    told = [*failures.told_of_fallbacks(task.history), *warnings]
    return HeldTask(claim, task, spec_of(task.model), samples, images=images, warnings=told)


def deliver(held: HeldTask, worker: str) -> Settlement:
    """running -> generated: the pictures made durable, the next stages told. Raises their errors."""
    close_old_connections()
    task = held.task
    pictures = {index: _png(image) for index, image in held.images.items()}
    for index, png in pictures.items():
        raw.write_raw(task.id, index, task.attempt, png)
    if lifecycle.mark_generated(
        task.id, worker=worker, attempt=task.attempt, warnings=[*task.warnings, *held.warnings]
    ):
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
                return hand_back(held, worker, f"the pictures could not be kept: {error}"[:250], count=True)
            time.sleep(0.5)


def send_stages(task_id: str, stages: Sequence[tuple[str, str]] = STAGES) -> None:
    """The messages for what follows the GPU. Lost ones are sent again."""
    try:
        chain(*(signature(name, (task_id,), queue=queue, immutable=True) for name, queue in stages)).apply_async()
    except OperationalError as error:
        logger.warning("stages of %s are left to the reconciler: %s", task_id, error)


def abandon(held: HeldTask, worker: str) -> Settlement:
    """The row of a task that was cancelled, lost or failed here, or that leaves because too much is paused."""
    close_old_connections()
    task = held.task
    if held.ending == "cancelled":
        lifecycle.cancel_if_requested(task.id, among=[Status.RUNNING], worker=worker, attempt=task.attempt)
        return Settlement("ended")
    if held.ending == "failed":
        error = held.error or RuntimeError("the engine gave no reason")
        return failures.after_failure(task, worker, error, retryable=held.retryable)
    if held.ending == "returned":
        RETURNED.inc()
        return hand_back(held, worker, PAUSED_TOO_MUCH)
    return Settlement("ended")


def hand_back(held: HeldTask, worker: str, reason: str, *, count: bool = False) -> Settlement:
    """running -> queued; `count` says whether the attempt is held against the task."""
    close_old_connections()
    task = held.task
    lifecycle.hand_back(task.id, worker=worker, attempt=task.attempt, reason=reason, count_attempt=count)
    return Settlement("waiting")


def after_broken_engine(held: HeldTask, worker: str, reason: str) -> Settlement:
    """The device or the engine failed under this task."""
    close_old_connections()
    return failures.after_device_loss(held.task, worker, reason, alone=held.claimed.alone)


def report_broken(worker: str, error: BaseException) -> None:
    """An alert: this worker's device or engine has failed. Best effort, the log has it in any case."""
    close_old_connections()
    try:
        alerts.raise_alert(Alert.Kind.DEVICE_LOST, worker, f"the device or the engine failed: {error}")
    except Error as fault:
        logger.error("the alert about %s is not kept: %s", worker, fault)


def report_working(worker: str) -> None:
    """This worker can work: alerts about its predecessors are over. Best effort."""
    close_old_connections()
    try:
        alerts.clear(worker)
    except Error as fault:
        logger.warning("alerts about %s are not cleared: %s", worker, fault)


def enqueue_again(task_id: str) -> None:
    """Makes a row known to the buffer as new: its model, and so its batch key, has changed."""
    close_old_connections()
    services.enqueue(Task.objects.get(pk=task_id))


def _pixels(png: bytes) -> np.ndarray:
    """float32 [H, W, 3] RGB in 0..1 of an 8-bit PNG; `_png` makes the same picture of it again."""
    decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.float32) / 255


def _png(image: np.ndarray) -> bytes:
    """8-bit PNG of float32 [H, W, 3] RGB in 0..1."""
    rounded = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    ok, data = cv2.imencode(".png", cv2.cvtColor(rounded, cv2.COLOR_RGB2BGR), PNG_EFFORT)
    if not ok:
        raise ValueError(f"a picture of shape {image.shape} cannot be written as PNG")
    return data.tobytes()
