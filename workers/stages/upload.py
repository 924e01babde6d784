"""processed -> stored: files from the raw store into the images store, verified."""

from typing import Final

from celery import shared_task

from generation.tasks import stages, states
from generation.tasks.models import Task
from imagegenx_site.tracing import spans
from storage.store import get_store
from workers.stages import lease, visit
from workers.stages.failures import handle_failures
from workers.stages.images import in_parallel, stored_keys

STAGE: Final = stages.named("upload")


@shared_task(name=STAGE.name)
def upload(task_id: str) -> None:
    """All files of the task, side by side."""
    task = lease.take(STAGE, task_id)
    if task is not None:
        work(task)


def work(task: Task) -> None:
    """On a leased task; then what follows in the same visit."""
    with handle_failures(STAGE, task), spans.timed(task.id, STAGE.name, **{"try": task.stage_attempts}):
        in_parallel(_move, stored_keys(task.known_images()))
        visit.leave(STAGE, task, states.mark_stored)
    visit.go_on(STAGE, task)


def _move(key: str) -> None:
    source, target = get_store("raw"), get_store("images")
    if source.exists(key):
        target.take(key, source)
    elif not target.exists(key):  # neither waiting nor uploaded by an earlier run of this stage
        raise FileNotFoundError(f"{key} is in neither store")
