"""What runs by the clock, one file a job, as Celery functions on queue io (schedule: CELERY_BEAT_SCHEDULE).

Importing this package registers the functions with Celery.
"""

from workers.housekeeping import (
    archive,
    idempotency,
    leftovers,
    oauth_tokens,
    partitions,
    results,
    retention,
    spool,
    usage,
    webhooks,
)

__all__ = [
    "archive",
    "idempotency",
    "leftovers",
    "oauth_tokens",
    "partitions",
    "results",
    "retention",
    "spool",
    "usage",
    "webhooks",
]
