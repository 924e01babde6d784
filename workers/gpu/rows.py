"""Rows of claimed tasks: queued -> running, and the samples that the engine takes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.conf import settings
from django.db import close_old_connections

from generation.queue.buffer import Claimed
from generation.tasks import results, states
from generation.tasks.models import Status, Task
from workers.gpu import failures
from workers.gpu.held_tasks import HeldTask
from workers.gpu.png import decode_png
from workers.gpu.samples import samples_of, spec_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Boarded:
    """What came of claims: tasks whose rows this worker won, and claims that came to nothing."""

    held: tuple[HeldTask, ...] = ()
    refused: tuple[Claimed, ...] = field(default=())


def board(claims: Sequence[Claimed], worker: str) -> Boarded:
    """queued -> running for claimed tasks, and their samples. Raises django.db.Error without Postgres."""
    close_old_connections()
    rows = {str(task.id): task for task in states.claim([UUID(claim.task_id) for claim in claims], worker)}
    held, refused = [], []
    for claim in claims:
        task = rows.get(claim.task_id)
        if task is None:
            states.cancel_if_requested(UUID(claim.task_id), among=[Status.QUEUED, Status.RUNNING])
            refused.append(claim)
        elif task.attempt > settings.MAX_ATTEMPTS:
            message = f"The task was begun {settings.MAX_ATTEMPTS} times and never finished."
            states.fail(task.id, code="too_many_attempts", message=message, worker=worker, attempt=task.attempt)
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
    images = {index: decode_png(result.png) for index, result in found.items()}
    warnings = dict.fromkeys(warning for result in found.values() for warning in result.warnings)
    warned = [*failures.fallback_warnings(task.history), *warnings]
    return HeldTask(claim, task, spec_of(task.model), samples, images=images, warnings=warned)
