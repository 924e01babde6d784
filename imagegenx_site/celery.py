"""The Celery app. What runs where (the stages after the GPU: generation/tasks/stages.py):

    queue      message                 read by                 meaning
    p0..p3     generate(id)            GPU workers, when idle  ticket of a waiting task: urgent, paid, normal, test
    dq.{name}  generate(id)            GPU worker {name}       ticket of a task it runs (the claim moves it there)
    cpu        postprocess(id)         CPU workers (prefork)   GENERATED -> PROCESSED
    io         upload(id), notify(id)  IO workers (threads)    PROCESSED -> STORED -> SUCCEEDED
    enlarge    enlarge(id)             enlarge workers         larger pictures after delivery, at low priority
    webhooks   send_webhook(delivery)  webhook workers         one attempt; nothing else waits for receivers
    cpu        preview(id)             CPU workers (prefork)   a picture as it will be used; belongs to no task
    io         maintenance.*           IO workers              by the clock: workers/housekeeping/schedule.py

cpu, io, enlarge and webhooks are four queues each, cpu.p0 to cpu.p3, one for each class of tasks, and one without a
class, io, for what belongs to no task (generation/queue/classes.py). A worker reads them by turns.

Messages carry ids, never parameters or state, and are sent by name: no sender imports a worker. There is no result
backend, Postgres holds the state. A message is acknowledged when its work is done; one that comes twice finds its
task further on and does nothing. Redis loses messages when a worker is killed at the wrong moment, so each hand-over
is repeated from the row by workers/recovery/reconciler.py.

Versions of celery and kombu are pinned: below 5.7 late acknowledgement from threads is a hundred times slower, and
5.7.0 needs imagegenx_site/broker_restart.py.
"""

import os
import warnings
from collections.abc import Sequence
from typing import Any

import structlog
from celery import Celery
from celery.apps import worker as worker_program
from celery.exceptions import SecurityWarning
from celery.signals import beat_init, setup_logging, task_postrun, task_prerun, worker_init
from django.conf import settings

from imagegenx_site import broker_restart, celery_costs, heartbeat, log_lines, metrics_files, readiness

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imagegenx_site.settings")
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # they import the URLs: the web process checks itself
broker_restart.apply()
# Whoever starts the product as root on a machine of its own knows it, and no message can carry code: they are JSON.
warnings.filterwarnings("ignore", category=SecurityWarning)

app = Celery("imagegenx_site")
app.set_default()
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    broker_url=settings.REDIS_URL,
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_default_queue="p2",
    queue_shares=settings.QUEUE_SHARES,  # ours: of the classes, for the order in which queues are read
    imports=(
        "generation.queue.revoke",  # of every worker: `revoke` cancels tasks
        "generation.queue.read_order",  # and queues are read by class
    ),
    task_create_missing_queues=True,  # all of them: a queue is made by its name when it is first used
    broker_transport_options={
        "priority_steps": [0],  # one Redis list per queue: its length is the queue's length
        "queue_order_strategy": "generation.queue.read_order:ReadOrder",
        "visibility_timeout": 900,  # s; a backstop, longer than the longest stage
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_timeout": 5,
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        "health_check_interval": 5,
    },
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_channel_error_retry=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,  # the engine does not care about the broker
    worker_enable_prefetch_count_reduction=False,
    worker_send_task_events=True,
    task_send_sent_event=False,
    task_publish_retry_policy={"max_retries": 3, "interval_start": 0.05, "interval_step": 0.2, "interval_max": 0.5},
    worker_soft_shutdown_timeout=20,
    timezone="UTC",
)
celery_costs.apply(app)
readiness.announce_with_celery()
worker_init.connect(lambda **_: metrics_files.serve(settings.METRICS_PORT), weak=False, dispatch_uid="metrics")
beat_init.connect(lambda **_: metrics_files.serve(settings.METRICS_PORT), weak=False, dispatch_uid="metrics")
worker_init.connect(lambda **_: heartbeat.beat_with_celery(), weak=False, dispatch_uid="heartbeat")


@worker_init.connect
def say_in_json(**_: Any) -> None:
    """What Celery prints when it is told to stop is a line like all others."""
    worker_program.safe_say = log_lines.say  # type: ignore[attr-defined]  # missing in the stubs


@setup_logging.connect
def keep_django_logging(**_: Any) -> None:
    """Celery must not replace the log configuration of the settings: every process writes the same lines."""


_UUID_CHARS = 36  # other messages are about a delivery, by its number, or about nothing


@task_prerun.connect
def bind_task(task: Any, args: Sequence[object] = (), **_: Any) -> None:
    """Every line that is written for a message says which task and which stage it is about."""
    about = {"task_id": str(args[0])} if args and len(str(args[0])) == _UUID_CHARS else {}
    structlog.contextvars.bind_contextvars(stage=task.name, **about)


@task_postrun.connect
def unbind_task(**_: Any) -> None:
    structlog.contextvars.unbind_contextvars("stage", "task_id")
