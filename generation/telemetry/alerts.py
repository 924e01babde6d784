"""Alerts of lost processes and devices: raised where the loss is noticed, cleared when the pool of the lost one is
whole again, whatever its new member is called. Shown in the admin, by GET /healthz/workers and as an error in the log.
"""

import logging
from typing import Final

import redis
from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from generation.queue import client as queue_client
from generation.telemetry.models import Alert
from imagegenx_site import redis_clients
from imagegenx_site.pools import Loss, Pools

UNKNOWN_POOL: Final = "gpu-worker"  # of a worker that its pool does not know, or of an alert older than pools
logger = logging.getLogger(__name__)


def pools() -> Pools:
    return Pools(redis_clients.text_client(), settings.WORKERS_WANTED)


def name_of(unique: str) -> str:
    """`gpu1` of `gpu1-9f86d081884c7d659a2feaa0c55ad015`: what an operator calls it."""
    return unique.rpartition("-")[0] or unique


def raise_alert(kind: str, worker: str, message: str, seen_ms: int | None = None) -> None:
    """`worker`: the name in its lease; `seen_ms`: its last sign of life, None: just now. While an alert for it is
    open, no second one is created; one whose place is taken already is created cleared.

    Raises django.db.Error.
    """
    name, loss = name_of(worker), _lose(worker, seen_ms)
    fields = {"alert": kind, "worker": worker, "pool": loss.pool}
    logger.error("%s: %s", name, message, extra=fields)
    if not Alert.objects.filter(worker=name, pool=loss.pool, cleared_at=None).exists():
        cleared_at = timezone.now() if loss.replaced else None
        Alert.objects.create(kind=kind, worker=name, pool=loss.pool, message=message[:500], cleared_at=cleared_at)


def _lose(worker: str, seen_ms: int | None) -> Loss:
    try:
        return pools().lose(worker, seen_ms) or Loss(UNKNOWN_POOL, replaced=False)
    except redis.RedisError:
        return Loss(UNKNOWN_POOL, replaced=False)


def clear_whole() -> None:
    """Close the open alerts of pools that are whole. Raises django.db.Error, redis.RedisError."""
    rows = Alert.objects.filter(cleared_at=None).exclude(kind=Alert.Kind.MODEL_FAILED)
    if not rows.exists():
        return
    broken = Q(pool__in=[pool.name for pool in pools().state() if not pool.whole])
    rows.exclude(broken).update(cleared_at=timezone.now())


def clear(alerts: "list[Alert]") -> int:
    """Close these alerts, whose workers will not come back, and their places; how many were open."""
    lost = [alert for alert in alerts if alert.kind != Alert.Kind.MODEL_FAILED]
    for name in {alert.pool for alert in lost if alert.cleared_at is None}:
        pools().close_places(name)
    rows = Alert.objects.filter(pk__in=[alert.pk for alert in alerts], cleared_at=None)
    return rows.update(cleared_at=timezone.now())


def raise_for_model(name: str, message: str) -> None:
    """A model cannot be loaded. While an alert about it is open, no second one is created. Raises django.db.Error."""
    rows = Alert.objects.filter(kind=Alert.Kind.MODEL_FAILED, worker=name, cleared_at=None)
    if not rows.exists():
        Alert.objects.create(kind=Alert.Kind.MODEL_FAILED, worker=name, pool="models", message=message[:500])


def clear_model(name: str) -> None:
    """It was loaded. Raises django.db.Error."""
    rows = Alert.objects.filter(kind=Alert.Kind.MODEL_FAILED, worker=name, cleared_at=None)
    rows.update(cleared_at=timezone.now())


def health() -> tuple[bool, dict[str, object]]:
    """Whether at least one GPU worker lives, every pool is whole and no alert is open; and the facts.

    Raises django.db.Error.
    """
    try:
        living, found = sorted(queue_client.living_workers()), pools().state()
    except redis.RedisError as error:
        return False, {"workers": [], "pools": [], "alerts": [], "redis": str(error)}
    open_ones = Alert.objects.filter(cleared_at=None).exclude(kind=Alert.Kind.MODEL_FAILED)  # no worker is at fault
    rows = open_ones.order_by("id")[:100]
    alerts = [
        {
            "worker": row.worker,
            "pool": row.pool,
            "kind": row.kind,
            "message": row.message,
            "raised_at": row.raised_at.isoformat(),
        }
        for row in rows
    ]
    members = [{"pool": pool.name, "live": pool.live, "wanted": pool.wanted} for pool in found]
    good = bool(living) and not alerts and all(pool.whole for pool in found)
    return good, {"workers": living, "pools": members, "alerts": alerts}
