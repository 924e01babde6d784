"""Alerts of lost workers and devices: raised where the loss is noticed, cleared by the worker that replaces the lost
one, shown in the admin, by GET /healthz/workers and as an error in the log.
"""

import logging

import redis
from django.utils import timezone

from generation.queue import client as queue_client
from generation.telemetry.models import Alert

logger = logging.getLogger(__name__)


def name_of(unique: str) -> str:
    """`gpu1` of `gpu1-4711-5f3a`: the part that stays the same over restarts."""
    return unique.rsplit("-", 2)[0]


def raise_alert(kind: str, worker: str, message: str) -> None:
    """`worker`: the name in its lease. While an alert for the worker is open, no second one is created.

    Raises django.db.Error.
    """
    name = name_of(worker)
    logger.error("%s: %s", name, message, extra={"alert": kind, "worker": worker})
    if not Alert.objects.filter(worker=name, cleared_at=None).exists():
        cleared_at = timezone.now() if _is_replaced(worker) else None
        Alert.objects.create(kind=kind, worker=name, message=message[:500], cleared_at=cleared_at)


def _is_replaced(worker: str) -> bool:
    """Whether a worker started again under that name is already running."""
    try:
        return any(name_of(other) == name_of(worker) and other != worker for other in queue_client.living_workers())
    except redis.RedisError:
        return False


def clear(worker: str) -> None:
    """Close the open alerts of a worker that works again. Raises django.db.Error."""
    Alert.objects.filter(worker=name_of(worker), cleared_at=None).update(cleared_at=timezone.now())


def health() -> tuple[bool, dict[str, object]]:
    """Whether at least one GPU worker lives and no alert is open; and the living workers and open alerts.

    Raises django.db.Error.
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
