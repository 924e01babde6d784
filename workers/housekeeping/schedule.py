"""The jobs and when they run. Importing this module registers their functions with Celery."""

import logging
from dataclasses import dataclass
from typing import Any, Final

from celery.beat import PersistentScheduler

from imagegenx_site import heartbeat
from imagegenx_site.heartbeat import Heartbeat
from workers.housekeeping import (
    archive,
    idempotency,
    model_pulls,
    oauth_tokens,
    partitions,
    raw_store,
    results,
    retention,
    spool,
    usage,
    webhooks,
    worker_queues,
)

_log = logging.getLogger(__name__)
_HOUR: Final = 3600.0
_DAY: Final = 24 * _HOUR


@dataclass(frozen=True)
class Job:
    """A Celery function, the seconds between its runs, and those after which a message that nobody took is void."""

    function: Any
    every: float
    expires: float
    queue: str = "io"

    @property
    def name(self) -> str:
        return str(self.function.name.removeprefix("maintenance."))


JOBS: Final = (
    Job(partitions.make_partitions, every=_HOUR, expires=_HOUR),
    Job(webhooks.send_webhooks, every=5, expires=10),
    Job(model_pulls.start_model_pulls, every=30, expires=30),
    Job(spool.sync_spool, every=10, expires=20),
    Job(retention.end_history, every=_HOUR, expires=_HOUR),
    Job(archive.archive_old_images, every=_HOUR, expires=_HOUR),
    Job(archive.bring_back, every=30, expires=30),
    Job(raw_store.sweep_raw_store, every=600, expires=600),
    Job(results.sweep_results, every=600, expires=600),
    Job(worker_queues.delete_abandoned_queues, every=_HOUR, expires=_HOUR),
    Job(usage.close_yesterday, every=_HOUR, expires=_HOUR),
    Job(oauth_tokens.delete_expired_tokens, every=_DAY, expires=_HOUR),
    Job(idempotency.delete_old_keys, every=_HOUR, expires=_HOUR),
)


class BeatScheduler(PersistentScheduler):
    """Beat's scheduler, over this table (`celery beat -S workers.housekeeping.schedule:BeatScheduler`)."""

    _heartbeat: Heartbeat | None = None

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """A look at the schedule: beat lives."""
        self._beat()
        return float(super().tick(*args, **kwargs))

    def close(self) -> None:
        """Beat ends."""
        super().close()
        if self._heartbeat is not None:
            self._heartbeat.leave()

    def _beat(self) -> None:
        self._heartbeat = self._heartbeat or heartbeat.of_this_process()
        if self._heartbeat is not None:
            self._heartbeat.beat()

    def _ensure_connected(self) -> Any:
        """While Redis is away beat waits in here, alive."""
        return self.connection.ensure_connection(lambda error, _: _log.warning("beat: %s", error), callback=self._beat)

    def setup_schedule(self) -> None:
        """Called once, when beat starts."""
        self.app.conf.beat_schedule = {
            job.name: {
                "task": job.function.name,
                "schedule": job.every,
                "options": {"queue": job.queue, "expires": job.expires},
            }
            for job in JOBS
        }
        super().setup_schedule()
