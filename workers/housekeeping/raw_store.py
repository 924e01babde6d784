"""What was left in the raw store: pictures of tasks that ended without clearing them, and those of enlargements whose
message was lost.
"""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from celery import shared_task

from generation.tasks import enlargement, stages
from generation.tasks.models import Task
from storage import keys, raw
from storage.store import get_store
from workers.stages.images import clear_raw

LEFT_AFTER: Final = timedelta(minutes=10)  # older pictures of ended tasks were left behind


@shared_task(name="maintenance.leftovers")
def sweep_raw_store() -> None:
    """Encoded files of crashed stages are deleted; lossless pictures too, or their enlargement is sent again."""
    old = datetime.now(UTC) - LEFT_AFTER
    everything = get_store("raw").list("")
    listed = [found.key for found in everything if found.modified < old and not found.key.startswith(keys.RESULTS)]
    for key in listed:
        if not key.startswith("raw/") and _has_ended(keys.parse(key).task_id):
            get_store("raw").delete(key)
    for task_id in {UUID(key.split("/")[1]) for key in listed if key.startswith("raw/")}:
        task = Task.objects.filter(pk=task_id).first()
        if task is None:
            raw.delete_task(task_id)
        elif enlargement.is_due(task, list(task.image_rows)):
            stages.send_stages(task_id, task.priority, task.status)
        elif task.terminal:
            clear_raw(task, task.image_rows)


def _has_ended(task_id: UUID) -> bool:
    """Also of a task whose row is gone."""
    task = Task.objects.filter(pk=task_id).first()
    return task is None or task.terminal
