"""What a worker has in memory, published for operators, and each model's measured size, kept in its row."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from django.db import Error, close_old_connections, transaction
from django.utils import timezone
from redis.exceptions import RedisError

from generation.catalogue.models import ImageModel
from generation.queue import model_memory
from generation.queue.model_memory import PUBLISH_S, Sizes, WorkerModels

logger = logging.getLogger(__name__)


class MemoryReporter:
    """Used by the engine's thread; what it publishes happens in a side thread, and may be lost: another follows."""

    node = ""  # the worker's name in Celery

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._published: Sizes | None = None
        self._next = 0.0
        self._busy: Future[None] | None = None

    def report(self, sizes: Sizes, device: str, threads: ThreadPoolExecutor) -> None:
        """Publish when something has changed, and from time to time."""
        now = time.monotonic()
        if (sizes == self._published and now < self._next) or (self._busy and not self._busy.done()):
            return
        new = {key: size for key, size in sizes.items() if key not in (self._published or {})}
        self._published, self._next = dict(sizes), now + PUBLISH_S
        found = WorkerModels(self.node, device, self._published)
        self._busy = threads.submit(_all, lambda: model_memory.publish(self._worker, found), lambda: _keep(new, device))

    def leave(self) -> None:
        """The worker ends."""
        _all(lambda: model_memory.withdraw(self._worker))


def _all(*works: Callable[[], None]) -> None:
    for work in works:
        try:
            work()
        except (Error, RedisError) as error:
            logger.warning("what is in memory is not published: %s", error)


def _keep(sizes: Sizes, device: str) -> None:
    """In the rows: by precision, with the revision that was measured."""
    close_old_connections()
    for key, (size, precision) in sizes.items():
        name, _, revision = key.partition("@")
        with transaction.atomic():
            row = ImageModel.objects.select_for_update().filter(name=name).first()
            if row is None:
                continue
            at = timezone.now().isoformat(timespec="seconds")
            measured = {"bytes": size, "device": device, "revision": revision, "at": at}
            ImageModel.objects.filter(pk=row.pk).update(measured_memory={**row.measured_memory, precision: measured})
