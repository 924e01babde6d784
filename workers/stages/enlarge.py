"""Larger pictures after delivery, for recipes that go on when the first version is out."""

from typing import Final
from uuid import UUID

from celery import shared_task

from generation.tasks import enlargement, events, stages, states
from generation.tasks.models import Task
from imagegenx_site.tracing import spans
from storage.store import get_store
from workers.stages import lease
from workers.stages.encode import process_pictures, read_lossless
from workers.stages.failures import handle_failures
from workers.stages.images import clear_raw, save_images

STAGE: Final = stages.named("enlarge")


@shared_task(name=STAGE.name, time_limit=660, soft_time_limit=600)  # s; each renews its lease, a hung one does not end
def enlarge(task_id: str) -> None:
    """The enlargement of a succeeded task. A lost message is found by maintenance.leftovers."""
    delivered = Task.objects.filter(pk=UUID(task_id), deleted_at=None).first()
    if delivered is None or not enlargement.is_due(delivered, list(delivered.image_rows)):
        return
    task = lease.take(STAGE, task_id)
    if task is None:
        return
    with handle_failures(STAGE, task), spans.timed(task.id, STAGE.name, **{"try": task.stage_attempts}):
        _enlarge(task)


def _enlarge(task: Task) -> None:
    """The whole recipe, straight into the images store; then the rows point at the new files, picture by picture.

    Addresses of the first version stay good until they expire: its objects are kept as long as the day's others.
    """
    size = {"width": task.width, "height": task.height}
    left = [image.index for image in enlargement.not_enlarged(task, list(task.image_rows.order_by("index")))]
    for index, file in zip(left, process_pictures([(task, read_lossless(task, left))], task.recipe), strict=True):
        save_images(get_store("images"), task, {index: file})
        size = {"width": file.original.width, "height": file.original.height}
    if states.end_enlargement(task.id, owner=task.stage_owner):
        events.publish(task.id, "updated", size)
        clear_raw(task, task.image_rows)
