"""Workers whose lease ran out without anybody noticing: their tasks are requeued."""

import logging

from generation.queue.buffer import Buffer

_log = logging.getLogger(__name__)


def run(buffer: Buffer) -> None:
    reaped = buffer.reap("", "its lease ran out")
    if reaped.requeued or reaped.dead:
        _log.warning("leases ran out: %d tasks requeued, %d given up", len(reaped.requeued), len(reaped.dead))
