"""Counters and histograms of requests, tasks, stages and caches. More are in workers/engine/metrics.py,
workers/gpu/settlement.py and storage/metrics.py; generation/telemetry/prometheus.py lists all and answers GET /metrics.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import prometheus_client as prometheus
from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.utils.decorators import sync_and_async_middleware

_FAST: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # s
_LONG: Final = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)  # s

HTTP = prometheus.Histogram(
    "imagegenx_http_seconds", "Time to an answer's headers.", ["method", "route", "status"], buckets=_FAST
)
TASK = prometheus.Histogram("imagegenx_task_seconds", "Submitted to succeeded.", ["model", "size"], buckets=_LONG)
WAIT = prometheus.Histogram(
    "imagegenx_task_wait_seconds",
    "Submitted to the first claim, or to an end without one.",
    ["class", "outcome"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 180, 300, 600),
)
MOVES = prometheus.Counter("imagegenx_task_moves", "Moves of tasks.", ["to"])
STAGE = prometheus.Histogram("imagegenx_stage_seconds", "Stages after the GPU.", ["stage", "outcome"], buckets=_FAST)
CACHE_CALLS = prometheus.Counter("imagegenx_cache_calls", "Look-ups in the caches of Redis.", ["cache", "result"])


@contextmanager
def timed_stage(stage: str) -> Iterator[None]:
    """Time a stage; an exception means that it failed."""
    began, outcome = time.monotonic(), "failed"
    try:
        yield
        outcome = "done"
    finally:
        STAGE.labels(stage, outcome).observe(time.monotonic() - began)


@sync_and_async_middleware
def timed_requests(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware: how long each route takes, until its answer's headers."""

    def observe(request: HttpRequest, response: Any, began: float) -> Any:
        route = request.resolver_match.route if request.resolver_match else "none"
        HTTP.labels(request.method or "", route, str(response.status_code)).observe(time.monotonic() - began)
        return response

    if iscoroutinefunction(get_response):

        async def asynchronous(request: HttpRequest) -> Any:
            began = time.monotonic()
            return observe(request, await get_response(request), began)

        return asynchronous

    def synchronous(request: HttpRequest) -> Any:
        began = time.monotonic()
        return observe(request, get_response(request), began)

    return synchronous
