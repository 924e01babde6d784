"""Redis was emptied: every queued row is enqueued again."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from redis import Redis

from generation.tasks import enqueue
from generation.tasks.models import Status, Task

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RedisEpochConfig:
    grace: float = 1.5  # s after a flush: running tasks register anew first


class RedisEpoch:
    """`rebuilt` is called when the queue is there again: messages that were sent before are gone."""

    def __init__(self, redis: Redis, config: RedisEpochConfig, rebuilt: Callable[[], None]) -> None:
        self._redis, self._config, self._rebuilt = redis, config, rebuilt
        self._emptied_at: float | None = None

    def run(self) -> None:
        """Oldest rows first, once the running ones have had time to register themselves."""
        if self._redis.exists("gq:epoch"):
            self._emptied_at = None
            return
        now = time.monotonic()
        self._emptied_at = self._emptied_at or now
        if now - self._emptied_at < self._config.grace:
            return
        count = 0
        for task in Task.objects.filter(status=Status.QUEUED).order_by("id").iterator(chunk_size=500):
            enqueue.enqueue(task)
            count += 1
        self._redis.set("gq:epoch", int(time.time()))
        self._rebuilt()
        level = logging.WARNING if count else logging.INFO  # at the first start nothing is lost
        _log.log(level, "the buffer was empty: %d waiting tasks enqueued", count)
