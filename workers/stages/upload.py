"""processed -> stored: files from the raw store into the images store, verified."""

from typing import Final

from celery import shared_task

from generation.tasks import stages, states
from generation.tasks.models import Task
from storage.store import get_store
from workers.stages.files import in_parallel, stored_keys
from workers.stages.runner import run_stage

STAGE: Final = stages.named("upload")


@shared_task(name=STAGE.name)
def upload(task_id: str) -> None:
    """processed -> stored."""
    run_stage(STAGE, task_id, _upload)


def _upload(task: Task, owner: str) -> None:
    source, target = get_store("raw"), get_store("images")

    def move(key: str) -> None:
        if source.exists(key):
            target.put(key, source.read(key))
        elif not target.exists(key):  # neither waiting nor uploaded by an earlier run of this stage
            raise FileNotFoundError(f"{key} is in neither store")

    in_parallel(move, stored_keys(task))
    states.mark_stored(task.id, owner=owner)
