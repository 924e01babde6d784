"""stored -> succeeded, with the outbox rows of webhooks, whose sending is other processes' work; the raw store is
emptied.
"""

import logging
from typing import Final
from uuid import UUID

from celery import shared_task
from django.db import transaction
from django.utils import timezone
from redis.exceptions import RedisError

from generation.catalogue import loras
from generation.queue.values import size_class
from generation.tasks import enlargement, estimates, outbox, stages, states
from generation.tasks.models import Task
from generation.webhooks import events as webhook_events
from generation.webhooks import messages
from imagegenx_site.metrics import PICTURE_BYTES, PICTURES, TASK
from imagegenx_site.tracing import spans
from workers.stages import lease
from workers.stages.failures import handle_failures
from workers.stages.images import clear_raw

STAGE: Final = stages.named("notify")
_log = logging.getLogger(__name__)


@shared_task(name=STAGE.name)
def notify(task_id: str) -> None:
    """The end of the task; those whose recipe goes on after delivery keep their lossless pictures."""
    task = lease.take(STAGE, task_id)
    if task is not None:
        work(task)


def work(task: Task) -> None:
    """On a leased task."""
    with handle_failures(STAGE, task), spans.timed(task.id, STAGE.name, **{"try": task.stage_attempts}):
        deliveries = _succeed(task)
        _note_time_after_gpu(task)
        messages.send_messages(deliveries, task.priority)
        pictures = list(task.known_images())
        PICTURES.inc(len(pictures))
        PICTURE_BYTES.inc(sum(picture.bytes for picture in pictures))
        clear_raw(task, pictures, but_lossless=task.recipe.late)
        if enlargement.not_enlarged(task, pictures):
            stages.send_stages(task.id, task.priority, STAGE.target)


def _succeed(task: Task) -> list[UUID]:
    """The ids of its deliveries, which are sent now; those of a run that ended in between are the clock's."""
    with transaction.atomic():
        if not states.mark_succeeded(task.id, owner=task.stage_owner):
            return []
        loras.count_use(task.parameters)
        transaction.on_commit(lambda: observe_success(task))
        return outbox.write_delivery_of(task, webhook_events.SUCCEEDED)


def observe_success(task: Task) -> None:
    """For the metrics: a task has just succeeded."""
    TASK.labels(task.model_key, size_class(task.width, task.height)).observe(
        (timezone.now() - task.created_at).total_seconds()
    )


def _note_time_after_gpu(task: Task) -> None:
    """For the estimates, which may do without."""
    if task.generated_at is None or task.model_id is None:
        return
    try:
        seconds = (timezone.now() - task.generated_at).total_seconds()
        estimates.note({"after": seconds, f"after:{task.priority}": seconds})
    except RedisError as error:
        _log.warning("time after the GPU not noted: %s", error)
