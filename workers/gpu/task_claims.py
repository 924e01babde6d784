"""Rows of claimed tasks: queued -> running, and the samples that the engine takes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.conf import settings
from django.db import close_old_connections

from generation.queue.values import Release
from generation.queue.worker import Claimed
from generation.tasks import results, states
from generation.tasks.models import Task
from workers.gpu import failures
from workers.gpu.outcomes import End, Outcome
from workers.gpu.png import decode_png
from workers.gpu.running_tasks import RunningTask
from workers.gpu.samples import samples_of, spec_of
from workers.gpu.settlement import settle_row

logger = logging.getLogger(__name__)


@dataclass
class ClaimedRows:
    """What came of claims: tasks whose rows this worker won, and what becomes of the entries of the others."""

    running: list[RunningTask] = field(default_factory=list)
    released: list[tuple[Claimed, Release]] = field(default_factory=list)


def claim_rows(claims: Sequence[Claimed], worker: str) -> ClaimedRows:
    """queued -> running for claimed tasks, and their samples. Raises django.db.Error without Postgres."""
    close_old_connections()
    won = {str(task.id): task for task in states.claim([UUID(claim.task_id) for claim in claims], worker)}
    rows = ClaimedRows()
    for claim in claims:
        task = won.get(claim.task_id)
        prepared = _prepare(claim, task)
        if isinstance(prepared, RunningTask):
            rows.running.append(prepared)
        else:
            rows.released.append((claim, settle_row(claim, task, prepared, worker)))
    return rows


def _prepare(claim: Claimed, task: Task | None) -> RunningTask | Outcome:
    """The task ready to run, or what became of it instead."""
    if task is None:
        return Outcome(End.NOT_RUNNABLE)
    if task.attempt > settings.MAX_ATTEMPTS:
        return Outcome(End.EXHAUSTED)
    try:
        return _running_task(claim, task)
    except Exception as error:
        logger.exception("task cannot be prepared", extra={"task_id": claim.task_id})
        return Outcome(End.FAILED, error, retryable=False)


def _running_task(claim: Claimed, task: Task) -> RunningTask:
    """With the pictures that identical requests have left."""
    samples = samples_of(task, alone=claim.alone)
    known = results.find(task.id, [sample.identity for sample in samples if sample.cacheable])
    found = {index: known[one.identity] for index, one in enumerate(samples) if one.cacheable and one.identity in known}
    images = {index: decode_png(result.png) for index, result in found.items()}
    cached = dict.fromkeys(warning for result in found.values() for warning in result.warnings)
    own = failures.fallback_warnings(task.history)
    return RunningTask(
        claim, task, spec_of(task.drawing_model), samples, images=images, warnings=list(cached), own_warnings=own
    )
