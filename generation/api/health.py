"""Liveness and readiness of the web process, and the health of the GPU workers."""

import logging
from dataclasses import asdict
from typing import Any

import redis
from django.db import DatabaseError, Error, connection
from django.http import HttpRequest, JsonResponse

from generation.telemetry import alerts, insiders
from imagegenx_site import redis_clients
from imagegenx_site.errors import TooManyRequests
from storage.store import images

_log = logging.getLogger(__name__)


def live(request: HttpRequest) -> JsonResponse:
    """200 while the process answers at all."""
    return JsonResponse({"status": "ok"})


def ready(request: HttpRequest) -> JsonResponse:
    """200 when requests can be served: Postgres answers. Redis may be away: tasks are then taken and wait. The store
    may be away: images wait in the spool. What it was is told to insiders (generation/telemetry/insiders.py).
    """
    well = _postgres()
    checks = {"postgres": well, "redis": _redis(), "spool": _spool()} if _may_see(request) else {}
    return JsonResponse({"status": "ok" if well else "unavailable", **checks}, status=200 if well else 503)


def workers(request: HttpRequest) -> JsonResponse:
    """200 when a GPU worker lives and none is missing; 503 otherwise, for insiders with names and open alerts. Not for
    load balancers: without workers tasks are taken and wait.
    """
    try:
        good, facts = alerts.health()
    except DatabaseError as error:
        _log.warning("postgres is out of reach: %s", error)
        good, facts = False, {"postgres": False}
    shown = facts if _may_see(request) else {}
    return JsonResponse({"status": "ok" if good else "degraded", **shown}, status=200 if good else 503)


def _may_see(request: HttpRequest) -> bool:
    """Health is told whatever happens: to strangers, and while Postgres can't say who is staff, in one word."""
    try:
        return insiders.may_see(request)
    except (Error, TooManyRequests):
        return False


def _postgres() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        _log.warning("postgres is out of reach: %s", error)
        return False
    return True


def _spool() -> dict[str, Any]:
    state = images().spool.state()
    return {**asdict(state), "oldest_seconds": round(state.oldest_seconds, 1), "full": round(state.full, 4)}


def _redis() -> bool:
    try:
        return bool(redis_clients.text_client().ping())
    except redis.RedisError as error:
        _log.warning("redis is out of reach: %s", error)
        return False
