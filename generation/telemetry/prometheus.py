"""The metrics of the product, for Prometheus.

Every process counts its own counters and histograms. With PROMETHEUS_MULTIPROC_DIR (the run script sets it:
VAR_DIR/run/metrics) all processes of a machine write them there and GET /metrics of the web process adds them up. In
containers each has a folder of its own, web processes answer GET /metrics and all others the same at METRICS_PORT.
Gauges of shared state (queues, tasks, spool, pools) are read by the web process at each scrape.

    imagegenx_http_seconds{method,route,status}      histogram
    imagegenx_task_seconds{model,size}               histogram: submitted to succeeded
    imagegenx_task_wait_seconds{class,outcome}       histogram: submitted to the first claim, or expired, cancelled,
                                                     failed without one
    imagegenx_task_moves_total{to}                   counter: every move of a task (generation/tasks/states.py)
    imagegenx_stage_seconds{stage,outcome}           histogram: postprocess, upload, notify, enlarge; done or failed
    imagegenx_store_seconds{operation,outcome}       histogram: put: stored, spooled, failed     (storage/metrics.py)
    imagegenx_cache_calls_total{cache,result}        counter: hits, misses, errors         (imagegenx_site/metrics.py)
    imagegenx_step_seconds{model,size}               histogram: a shared denoising step   (workers/engine/metrics.py)
    imagegenx_batch_samples{model}                   histogram: samples that shared it    (and so the next five)
    imagegenx_embeddings_total{result}               counter: prompts, hit or miss
    imagegenx_out_of_memory_total{model}             counter: passes that did not fit
    imagegenx_paused_bytes                           gauge: memory of paused samples
    imagegenx_model_bytes{model}                     gauge: memory of loaded models
    imagegenx_model_loads_total{model,outcome}       counter: loaded, failed
    imagegenx_tasks_returned_total                   counter: paused and requeued (workers/gpu/settlement.py)
    imagegenx_queue_messages{queue}                  gauge: Celery messages in Redis
    imagegenx_tasks_waiting{class}, imagegenx_tasks_open{status}    gauges: the buffer, the rows
    imagegenx_oldest_waiting_seconds{class}          gauge: age of the class's oldest waiting task, 0 without one
    imagegenx_workers{pool,state}                    gauge: members of a pool that are live, and wanted
    imagegenx_alerts_open                            gauge: alerts that nobody and nothing has cleared
    imagegenx_spool_files, _bytes, _oldest_seconds, _full           gauges: of the machine's spool
    imagegenx_store_down                             gauge: 1 while pictures are spooled instead of stored
    imagegenx_results_total{result}                  counter: pictures answered from earlier runs
    imagegenx_scrape_failures{source}                gauge: 1 where a source did not answer
"""

import logging
from collections.abc import Iterator
from typing import Final

import prometheus_client as prometheus
from django.db import DatabaseError
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from redis import RedisError

from generation.queue import client as queue_client
from generation.queue.classes import CLASSES, queues_of
from generation.tasks import open_tasks, results, stages
from generation.tasks.models import OPEN, Task
from generation.telemetry import alerts, insiders
from generation.telemetry.models import Alert
from generation.webhooks import messages
from imagegenx_site import metrics_files, redis_clients
from storage.store import images

QUEUES: Final = (
    *(f"p{number}" for number in CLASSES),
    *(queue for work in (*stages.QUEUES, messages.QUEUE) for queue in queues_of(work)),
)

_log = logging.getLogger(__name__)


class SystemCollector(Collector):
    """Gauges read at each scrape. A source that fails is counted in `imagegenx_scrape_failures`; the others go on."""

    def collect(self) -> Iterator[Metric]:
        failures = GaugeMetricFamily("imagegenx_scrape_failures", "1: the source did not answer.", labels=["source"])
        for source in (_redis, _rows, _pools, _spool):
            try:
                yield from list(source())
                failures.add_metric([source.__name__.strip("_")], 0)
            except (RedisError, DatabaseError, OSError) as error:
                _log.warning("could not read metrics of %s: %s", source.__name__, error)
                failures.add_metric([source.__name__.strip("_")], 1)
        yield failures


def _redis() -> Iterator[Metric]:
    lengths = GaugeMetricFamily("imagegenx_queue_messages", "Celery messages.", labels=["queue"])
    with redis_clients.text_client().pipeline(transaction=False) as pipe:
        for queue in QUEUES:
            pipe.llen(queue)
        for queue, length in zip(QUEUES, pipe.execute(), strict=True):
            lengths.add_metric([queue], length)
    yield lengths
    waiting = GaugeMetricFamily("imagegenx_tasks_waiting", "Tasks in the buffer.", labels=["class"])
    for number, count in enumerate(queue_client.backlog().tasks):
        waiting.add_metric([f"P{number}"], count)
    yield waiting
    answered = CounterMetricFamily("imagegenx_results", "Pictures asked of the result cache.", labels=["result"])
    for result, count in results.counted().items():
        answered.add_metric([result], count)
    yield answered


def _rows() -> Iterator[Metric]:
    found = dict(Task.objects.filter(status__in=OPEN).order_by().values_list("status").annotate(Count("pk")))
    tasks = GaugeMetricFamily("imagegenx_tasks_open", "Tasks that have not ended.", labels=["status"])
    for status in OPEN:
        tasks.add_metric([status], found.get(status, 0))
    yield tasks
    oldest = GaugeMetricFamily("imagegenx_oldest_waiting_seconds", "Age of the oldest waiting task.", labels=["class"])
    ages = open_tasks.oldest_waiting()
    for number in CLASSES:
        oldest.add_metric([f"P{number}"], ages.get(number, 0.0))
    yield oldest
    open_alerts = Alert.objects.filter(cleared_at=None).count()
    yield GaugeMetricFamily("imagegenx_alerts_open", "Alerts that are not cleared.", open_alerts)


def _pools() -> Iterator[Metric]:
    workers = GaugeMetricFamily("imagegenx_workers", "Members of a pool of processes.", labels=["pool", "state"])
    for pool in alerts.pools().state():
        workers.add_metric([pool.name, "live"], pool.live)
        workers.add_metric([pool.name, "wanted"], pool.wanted)
    yield workers


def _spool() -> Iterator[Metric]:
    state = images().spool.state()
    yield GaugeMetricFamily("imagegenx_spool_files", "Pictures that wait for the store.", state.files)
    yield GaugeMetricFamily("imagegenx_spool_bytes", "Their bytes.", state.bytes)
    yield GaugeMetricFamily("imagegenx_spool_oldest_seconds", "Age of the first.", state.oldest_seconds)
    yield GaugeMetricFamily("imagegenx_spool_full", "0 to 1, of the nearer bound.", state.full)
    yield GaugeMetricFamily("imagegenx_store_down", "1: the store is taken to be away.", state.store_down)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """GET /metrics, for METRICS_TOKEN as a bearer token; without one for this machine only, and not through a proxy."""
    if not insiders.may_see(request):
        return HttpResponse("Set METRICS_TOKEN and send it as a bearer token.\n", "text/plain", 403)
    read = prometheus.CollectorRegistry()
    read.register(SystemCollector())
    text = prometheus.generate_latest(metrics_files.registry()) + prometheus.generate_latest(read)
    return HttpResponse(text, content_type="text/plain; version=0.0.4; charset=utf-8")
