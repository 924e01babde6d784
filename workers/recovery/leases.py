"""Workers whose lease ran out without anybody noticing: their tasks are requeued."""

import logging

from generation.queue.worker import WorkerQueue

_log = logging.getLogger(__name__)


def run(queue: WorkerQueue) -> None:
    found = queue.requeue_dead("", "its lease ran out")
    if found.requeued or found.given_up:
        _log.warning("leases ran out: %d tasks requeued, %d given up", len(found.requeued), len(found.given_up))
