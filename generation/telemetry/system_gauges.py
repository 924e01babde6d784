"""Gauges of what all processes share, read at each scrape of GET /metrics: queues, rows, pools, disks."""

import logging
import platform
import shutil
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import Count, Sum
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from redis import RedisError

from generation.catalogue.models import Lora
from generation.queue import client as queue_client
from generation.queue.classes import CLASSES, queues_of
from generation.tasks import results, stages
from generation.tasks.models import OPEN, Status, Task
from generation.telemetry import alerts, waiting_work
from generation.telemetry.models import Alert
from generation.webhooks import messages
from generation.webhooks.models import Delivery, WebhookEndpoint
from imagegenx_site import redis_clients
from storage.store import images

QUEUES: Final = (
    *(f"p{number}" for number in CLASSES),
    *(queue for work in (*stages.QUEUES, messages.QUEUE) for queue in queues_of(work)),
)

_MOST_LORAS: Final = 50  # series of LoRAs: the most used
_log = logging.getLogger(__name__)


class SystemCollector(Collector):
    """Gauges read at each scrape. A source that fails is counted in `imagegenx_scrape_failures`; the others go on."""

    def collect(self) -> Iterator[Metric]:
        failures = GaugeMetricFamily("imagegenx_scrape_failures", "1: the source did not answer.", labels=["source"])
        for source in (_build, _redis, _rows, _loras, _webhooks, _pools, _spool, _disks, _servers):
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
    """Waiting rows are read once: there may be a hundred thousand."""
    work = waiting_work.by_model()
    later = Task.objects.filter(status__in=[status for status in OPEN if status != Status.QUEUED]).order_by()
    found = dict(later.values_list("status").annotate(Count("pk"))) | {Status.QUEUED: sum(one.tasks for one in work)}
    tasks = GaugeMetricFamily("imagegenx_tasks_open", "Tasks that have not ended.", labels=["status"])
    for status in OPEN:
        tasks.add_metric([status], found.get(status, 0))
    yield tasks
    oldest = GaugeMetricFamily("imagegenx_oldest_waiting_seconds", "Age of the oldest waiting task.", labels=["class"])
    for number in CLASSES:
        oldest.add_metric([f"P{number}"], max((one.oldest for one in work if one.priority == number), default=0.0))
    yield oldest
    by_model = GaugeMetricFamily("imagegenx_model_waiting", "Waiting tasks.", labels=["model", "class"])
    for one in work:
        by_model.add_metric([one.model, f"P{one.priority}"], one.tasks)
    yield by_model
    open_alerts = Alert.objects.filter(cleared_at=None).count()
    yield GaugeMetricFamily("imagegenx_alerts_open", "Alerts that are not cleared.", open_alerts)
    with suppress(RedisError):  # the source `pools` says so
        yield from _work_of_pools(work)


def _work_of_pools(work: Sequence[waiting_work.Work]) -> Iterator[Metric]:
    """What waits for each pool of GPU workers."""
    waiting = GaugeMetricFamily("imagegenx_pool_waiting", "Tasks waiting for a pool.", labels=["pool", "class"])
    oldest = GaugeMetricFamily(
        "imagegenx_pool_oldest_waiting_seconds", "Age of the oldest of them.", labels=["pool", "class"]
    )
    for (pool, priority), (tasks, age) in waiting_work.by_pool(work, alerts.pools().state()).items():
        waiting.add_metric([pool, f"P{priority}"], tasks)
        oldest.add_metric([pool, f"P{priority}"], age)
    yield from (waiting, oldest)


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


def _loras() -> Iterator[Metric]:
    loras = CounterMetricFamily("imagegenx_lora_uses", "Tasks that used a LoRA.", labels=["lora"])
    used = Lora.objects.filter(uses__gt=0).order_by().values_list("name").annotate(total=Sum("uses"))
    for name, uses in used.order_by("-total", "name")[:_MOST_LORAS]:
        loras.add_metric([name], uses)
    yield loras


def _webhooks() -> Iterator[Metric]:
    pending = Delivery.objects.filter(state=Delivery.State.PENDING).count()
    yield GaugeMetricFamily("imagegenx_webhooks_pending", "Deliveries that have not ended.", pending)
    disabled = WebhookEndpoint.objects.exclude(disabled_at=None).count()
    yield GaugeMetricFamily("imagegenx_webhook_endpoints_disabled", "Endpoints that are switched off.", disabled)


def _disks() -> Iterator[Metric]:
    size = GaugeMetricFamily("imagegenx_disk_bytes", "Size of the file system.", labels=["place"])
    free = GaugeMetricFamily("imagegenx_disk_free_bytes", "What is free of it.", labels=["place"])
    folders = map(str, (settings.VAR_DIR, settings.MEDIA_ROOT, settings.RAW_ROOT, settings.SPOOL_ROOT))
    for place, folder in zip(("data", "media", "raw", "spool"), folders, strict=True):
        if Path(folder).is_dir():
            usage = shutil.disk_usage(folder)
            size.add_metric([place], usage.total)
            free.add_metric([place], usage.free)
    yield from (size, free)


def _servers() -> Iterator[Metric]:
    memory = redis_clients.text_client().info("memory")["used_memory"]
    yield GaugeMetricFamily("imagegenx_redis_bytes", "Memory that Redis uses.", memory)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        yield GaugeMetricFamily("imagegenx_database_bytes", "The database on disk.", cursor.fetchone()[0])


def _build() -> Iterator[Metric]:
    info = GaugeMetricFamily("imagegenx_build_info", "What runs.", labels=["version", "commit", "python"])
    info.add_metric([_version(), settings.BUILD_COMMIT, platform.python_version()], 1)
    yield info


@cache
def _version() -> str:
    return str(tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text())["project"]["version"])
