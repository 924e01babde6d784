"""Counters and histograms of requests, tasks, stages and caches. More are in workers/engine/metrics.py,
workers/gpu/settlement.py and storage/metrics.py; generation/telemetry/prometheus.py lists all and answers GET /metrics.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import prometheus_client as prometheus
from django.http import HttpRequest

from imagegenx_site.web.middleware import Steps, middleware

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
SUBMITTED = prometheus.Counter("imagegenx_tasks_submitted", "New tasks.", ["model", "kind", "class", "size"])
OUTCOMES = prometheus.Counter(
    "imagegenx_task_outcomes",
    "Ends of tasks: succeeded, failed, cancelled or expired, and the code of the error.",
    ["model", "kind", "class", "outcome", "code"],
)
REQUEUES = prometheus.Counter("imagegenx_task_requeues", "Moves back to the queue, and why.", ["code"])
PICTURES = prometheus.Counter("imagegenx_pictures", "Pictures of tasks that succeeded.")
PICTURE_BYTES = prometheus.Counter("imagegenx_picture_bytes", "Bytes of their originals.")
WEBHOOK = prometheus.Histogram(
    "imagegenx_webhook_seconds", "Attempts at receivers; answer: 2xx to 5xx, or none.", ["answer"], buckets=_FAST
)
WEBHOOKS_ENDED = prometheus.Counter("imagegenx_webhooks_ended", "Deliveries delivered or given up.", ["outcome"])
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


@middleware
def timed_requests(request: HttpRequest) -> Steps:
    """How long each route takes, until its answer's headers."""
    began = time.monotonic()
    response = yield
    route = request.resolver_match.route if request.resolver_match else "none"
    HTTP.labels(request.method or "", route, str(response.status_code)).observe(time.monotonic() - began)
