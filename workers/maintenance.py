"""What runs by the clock, as Celery functions on queue io (the schedule is in imagegenx_site/celery.py)."""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from celery import current_app, shared_task
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from generation import archiving, partitions, results, retention, usage, webhooks
from generation.models import IdempotencyKey, Status, Task
from storage import keys, raw
from storage.store import get_store, images
from workers import handover
from workers.stages import clear_raw, is_to_be_enlarged

LEFT_AFTER: Final = timedelta(minutes=10)  # raw pictures of ended tasks older than this were left behind


@shared_task(name="maintenance.partitions")
def make_partitions() -> None:
    """The partitions of the coming days."""
    partitions.ensure(datetime.now(UTC).date(), settings.PARTITIONS_AHEAD_DAYS + 1)


@shared_task(name="maintenance.webhooks")
def send_webhooks() -> None:
    """Deliveries whose time has come: first attempts of ends that no worker saw, and repeats."""
    for delivery_id in webhooks.due():
        webhooks.send(delivery_id)


@shared_task(name="maintenance.usage")
def close_usage() -> None:
    """The ledger of yesterday, written anew each hour: tasks of late evening end after midnight."""
    usage.close_day(datetime.now(UTC).date() - timedelta(days=1))


@shared_task(name="maintenance.tokens")
def forget_oauth_tokens() -> None:
    """OAuth tokens that have expired."""
    call_command("cleartokens", verbosity=0)


@shared_task(name="maintenance.idempotency")
def forget_idempotency_keys() -> None:
    """Idempotency keys older than a day."""
    IdempotencyKey.objects.filter(created_at__lt=timezone.now() - timedelta(days=1)).delete()


@shared_task(name="maintenance.spool")
def bring_spool_to_store() -> None:
    """Pictures that waited on this machine while the object store was away."""
    images().sync()


@shared_task(name="maintenance.results")
def sweep_results() -> None:
    """Pictures that were kept for identical requests long enough."""
    results.sweep()


@shared_task(name="maintenance.retention")
def end_history() -> None:
    """Days older than HISTORY_DAYS: their pictures, rows and partitions."""
    retention.end_before(datetime.now(UTC).date() - timedelta(days=settings.HISTORY_DAYS))


@shared_task(name="maintenance.archive")
def archive_unopened() -> None:
    """Originals that nobody opened for ARCHIVE_AFTER_DAYS."""
    if settings.ARCHIVE_AFTER_DAYS:
        archiving.archive_unopened(settings.ARCHIVE_AFTER_DAYS)


@shared_task(name="maintenance.returns")
def bring_back_from_archive() -> None:
    """Originals that somebody asked for while they were in the archive."""
    archiving.bring_back()


@shared_task(name="maintenance.leftovers")
def clear_leftovers() -> None:
    """Raw pictures of tasks that ended without clearing them, and late enlargements whose message was lost."""
    old = datetime.now(UTC) - LEFT_AFTER
    everything = get_store("raw").list("")
    listed = [found.key for found in everything if found.modified < old and not found.key.startswith(keys.RESULTS)]
    for key in listed:
        if not key.startswith("raw/") and _ended(keys.parse(key).task_id):  # encoded files of a crashed stage
            get_store("raw").delete(key)
    for task_id in {UUID(key.split("/")[1]) for key in listed if key.startswith("raw/")}:
        task = Task.objects.filter(pk=task_id).first()
        if task is None:
            raw.delete_task(task_id)
        elif task.status == Status.SUCCEEDED and is_to_be_enlarged(task):
            current_app.send_task("enlarge", (str(task_id),), queue=handover.LATE)
        elif task.terminal:
            clear_raw(task)


def _ended(task_id: UUID) -> bool:
    """Whether the task has ended, or its row is gone."""
    task = Task.objects.filter(pk=task_id).first()
    return task is None or task.terminal
