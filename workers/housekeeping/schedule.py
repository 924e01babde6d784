"""The jobs and when they run. Importing this module registers their functions with Celery."""

from dataclasses import dataclass
from typing import Any, Final

from celery.beat import PersistentScheduler

from workers.housekeeping import (
    archive,
    idempotency,
    oauth_tokens,
    partitions,
    raw_store,
    results,
    retention,
    spool,
    usage,
    webhooks,
)

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
    Job(webhooks.send_webhooks, every=2, expires=10),
    Job(spool.sync_spool, every=5, expires=10),
    Job(retention.end_history, every=_HOUR, expires=_HOUR),
    Job(archive.archive_old_images, every=_HOUR, expires=_HOUR),
    Job(archive.bring_back, every=10, expires=10),
    Job(raw_store.sweep_raw_store, every=600, expires=600),
    Job(results.sweep_results, every=_HOUR, expires=_HOUR),
    Job(usage.close_yesterday, every=_HOUR, expires=_HOUR),
    Job(oauth_tokens.delete_expired_tokens, every=_DAY, expires=_HOUR),
    Job(idempotency.delete_old_keys, every=_HOUR, expires=_HOUR),
)


class BeatScheduler(PersistentScheduler):
    """Beat's scheduler, over this table (`celery beat -S workers.housekeeping.schedule:BeatScheduler`)."""

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
