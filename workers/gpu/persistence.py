"""Finished pictures made durable, in side threads: no forward pass waits for a disk or a database."""

import logging
import time

from django.db import Error, close_old_connections

from generation.tasks import results, states
from generation.tasks.stages import send_stages
from imagegenx_site.tracing import spans
from storage import raw
from storage.errors import StorageError
from workers.gpu import model_health
from workers.gpu.outcomes import End, Outcome
from workers.gpu.png import encode_png
from workers.gpu.running_tasks import RunningTask

logger = logging.getLogger(__name__)
RETRY_S = 0.5


def persist_pictures(running: RunningTask, worker: str) -> None:
    """running -> generated, and the messages of the next stages. May be repeated. Raises the errors of disk, store and
    database.
    """
    close_old_connections()
    task = running.task
    with spans.timed(task.id, "raw", pictures=len(running.images), attempt=task.attempt):
        _persist(running, worker)


def _persist(running: RunningTask, worker: str) -> None:
    task = running.task
    pictures = {index: encode_png(image) for index, image in running.images.items()}
    for index, png in pictures.items():
        raw.write_raw(task.id, index, task.attempt, png)
    warnings = [*task.warnings, *running.own_warnings, *running.warnings]
    if states.mark_generated(task.id, worker=worker, attempt=task.attempt, warnings=warnings):
        send_stages(task.id, task.priority)
        if len(running.reused) < len(running.samples):
            model_health.note_loaded(task.drawing_model)
        for index, sample in enumerate(running.samples):
            if sample.cacheable and index not in running.reused:
                results.keep(task.id, sample.identity, results.Result(pictures[index], tuple(running.warnings)))


def persist_with_retries(running: RunningTask, worker: str, seconds: float) -> Outcome:
    """FINISHED; or NOT_STORED, if disk, store or database refused for so long."""
    until = time.monotonic() + seconds
    while True:
        try:
            persist_pictures(running, worker)
            return Outcome(End.FINISHED)
        except (StorageError, OSError, Error) as error:
            logger.error("pictures of %s are not safe yet: %s", running.id, error)
            if time.monotonic() > until:
                return Outcome(End.NOT_STORED, error)
            time.sleep(RETRY_S)
