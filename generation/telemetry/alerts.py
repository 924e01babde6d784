"""Lost workers and devices: raised where the loss is seen, cleared by the successor of the same name, shown in the
admin, by GET /healthz/workers and as a log line with the field `alert`.
"""

import logging

import redis
from django.utils import timezone

from generation.queue import client as queue_client
from generation.telemetry.models import Alert

logger = logging.getLogger(__name__)


def name_of(unique: str) -> str:
    """`gpu1` of `gpu1-4711-5f3a`: what stays the same over restarts."""
    return unique.rsplit("-", 2)[0]


def raise_alert(kind: str, worker: str, message: str) -> None:
    """`worker` as it calls itself in its lease. Several alerts of one loss are one: the first, which knows most.

    Raises django.db.Error.
    """
    name = name_of(worker)
    logger.error("%s: %s", name, message, extra={"alert": kind, "worker": worker})
    if not Alert.objects.filter(worker=name, cleared_at=None).exists():
        back = timezone.now() if _successor_lives(worker) else None
        Alert.objects.create(kind=kind, worker=name, message=message[:500], cleared_at=back)


def _successor_lives(worker: str) -> bool:
    """The alert comes late: another worker of that name works already."""
    try:
        return any(name_of(other) == name_of(worker) and other != worker for other in queue_client.living_workers())
    except redis.RedisError:
        return False


def clear(worker: str) -> None:
    """The worker works again. Raises django.db.Error."""
    Alert.objects.filter(worker=name_of(worker), cleared_at=None).update(cleared_at=timezone.now())


def health() -> tuple[bool, dict[str, object]]:
    """Whether every GPU worker that was seen works, and the facts: living workers, open alerts. Raises
    django.db.Error.
    """
    try:
        living = sorted(queue_client.living_workers())
    except redis.RedisError as error:
        return False, {"workers": [], "alerts": [], "redis": str(error)}
    rows = Alert.objects.filter(cleared_at=None).order_by("id")[:100]
    alerts = [
        {"worker": row.worker, "kind": row.kind, "message": row.message, "raised_at": row.raised_at.isoformat()}
        for row in rows
    ]
    return bool(living) and not alerts, {"workers": living, "alerts": alerts}
