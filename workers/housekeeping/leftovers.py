"""Raw pictures of ended tasks, and late enlargements whose message was lost."""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from celery import shared_task

from generation.tasks import enlargement, stages
from generation.tasks.models import Task
from storage import keys, raw
from storage.store import get_store
from workers.stages.images import clear_raw

LEFT_AFTER: Final = timedelta(minutes=10)  # raw pictures of ended tasks older than this were left behind


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
        elif enlargement.is_due(task, list(task.images.all())):
            stages.send_stages(str(task_id), task.status)
        elif task.terminal:
            clear_raw(task)


def _ended(task_id: UUID) -> bool:
    """Whether the task has ended, or its row is gone."""
    task = Task.objects.filter(pk=task_id).first()
    return task is None or task.terminal
