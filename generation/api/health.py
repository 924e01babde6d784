"""Liveness and readiness of the web process, and the health of the GPU workers."""

import logging
from dataclasses import asdict
from typing import Any

import redis
from django.db import DatabaseError, Error, connection
from django.db.migrations.loader import MigrationLoader
from django.http import HttpRequest, JsonResponse

from generation.telemetry import alerts, insiders
from imagegenx_site import redis_clients
from imagegenx_site.errors import TooManyRequests
from storage.store import images

_log = logging.getLogger(__name__)
_migrated = False  # this process has seen every migration applied


def live(request: HttpRequest) -> JsonResponse:
    """200 while the process answers at all."""
    return JsonResponse({"status": "ok"})


def ready(request: HttpRequest) -> JsonResponse:
    """200 when requests can be served: Postgres answers and has every migration of this code. Redis may be away: tasks
    are then taken and wait. The store may be away: images wait in the spool. Details are for insiders
    (generation/telemetry/insiders.py).
    """
    postgres = _postgres()
    schema = postgres and _schema()
    checks: dict[str, Any] = {}
    if _may_see(request):
        checks = {"postgres": postgres, "schema": schema, "redis": _redis(), "spool": _spool()}
    return JsonResponse({"status": "ok" if schema else "unavailable", **checks}, status=200 if schema else 503)


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
    """Details of health are for insiders; while Postgres can not say who is staff, nobody gets them."""
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


def _schema() -> bool:
    """Whether all migrations of this code are applied; once they are, they stay so and are not asked for again."""
    global _migrated
    if not _migrated:
        try:
            loader = MigrationLoader(connection)
            missing = loader.graph.nodes.keys() - loader.applied_migrations.keys()
        except DatabaseError as error:
            _log.warning("the migrations could not be read: %s", error)
            return False
        if missing:
            _log.warning("%d migrations are not applied yet", len(missing))
        _migrated = not missing
    return _migrated


def _spool() -> dict[str, Any]:
    state = images().spool.state()
    return {**asdict(state), "oldest_seconds": round(state.oldest_seconds, 1), "full": round(state.full, 4)}


def _redis() -> bool:
    try:
        return bool(redis_clients.text_client().ping())
    except redis.RedisError as error:
        _log.warning("redis is out of reach: %s", error)
        return False
