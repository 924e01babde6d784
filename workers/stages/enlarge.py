"""Larger pictures after delivery, for recipes with a late step."""

from typing import Final
from uuid import UUID

from celery import shared_task

from generation.tasks import enlargement, events, stages, states
from generation.tasks.models import Task
from storage.store import get_store
from workers.stages.files import clear_raw, keep_files, make_files
from workers.stages.runner import run_stage

STAGE: Final = stages.named("enlarge")


@shared_task(name=STAGE.name)
def enlarge(task_id: str) -> None:
    """A late enlargement of a succeeded task. A lost message is found by maintenance.leftovers."""
    task = Task.objects.filter(pk=UUID(task_id), deleted_at=None).first()
    if task is not None and is_to_be_enlarged(task):
        run_stage(STAGE, task_id, _enlarge)


def is_to_be_enlarged(task: Task) -> bool:
    """Whether a succeeded task still has the first version of a picture that its recipe enlarges later."""
    return enlargement.is_to_come(task, list(task.images.all()))


def _enlarge(task: Task, owner: str) -> None:
    """The whole recipe, straight into the images store; then the rows point at the new files, picture by picture.

    Addresses of the first version stay good until they expire: its objects are kept as long as the day's others.
    """
    size = {"width": task.width, "height": task.height}
    left = [image.index for image in enlargement.first_versions(task, list(task.images.order_by("index")))]
    for index, file in zip(left, make_files([task], owner, whole=True, only=left), strict=True):
        keep_files(get_store("images"), task, {index: file})
        size = {"width": file.original.width, "height": file.original.height}
    if states.end_late_step(task.id, owner=owner):
        events.publish(task.id, "updated", size)
        clear_raw(task)
