"""generated -> processed: encoded originals and thumbnails, made together with those of tasks that ask for the same."""

import logging
from typing import Final

from celery import shared_task
from django.conf import settings

from generation.tasks import stages, states
from generation.tasks.models import Task
from storage.store import get_store
from workers.stages import lease, picture_check
from workers.stages.encode import process_pictures, read_lossless
from workers.stages.failures import handle_failures
from workers.stages.images import save_images

STAGE: Final = stages.named("postprocess")
GROUP_PIXELS: Final = 4 << 20  # of finished pictures that are worked on together
_log = logging.getLogger(__name__)


@shared_task(name=STAGE.name, time_limit=660, soft_time_limit=600)  # s; enlarging on a CPU takes minutes
def postprocess(task_id: str) -> None:
    """A task, and with it waiting ones that ask for the same."""
    task = lease.take(STAGE, task_id)
    if task is None:
        return
    with handle_failures(STAGE, task):
        _postprocess(task)


def _postprocess(task: Task) -> None:
    """A failure stays with its task: after one, those that are not done are processed alone."""
    left = [task, *_take_mates(task)]
    if len(left) > 1:
        try:
            _process(left, task)
        except Exception:
            _log.exception("a group failed; %d go on alone", len(left))
    for mate in [other for other in left if other.pk != task.pk]:
        with handle_failures(STAGE, mate):
            _process([mate], task)
    if task in left:
        _process([task], task)


def _take_mates(task: Task) -> list[Task]:
    """Leases on waiting tasks, so many that the group stays quick: a lone task is never kept waiting for mates."""
    upscale = task.recipe.first_version().upscale
    pixels = task.width * task.height * task.parameters.num_images * (upscale.scale**2 if upscale else 1)
    room = min(settings.POSTPROCESS_GROUP, GROUP_PIXELS // pixels) - 1
    return states.take_mates(task, STAGE, task.stage_owner, settings.STAGE_SECONDS, room) if room > 0 else []


def _process(left: list[Task], first: Task) -> None:
    """Make the first versions of these tasks as one batch, once the content policy has looked at the pictures. A task
    is taken from the list when its row has moved. The chain of messages of `first` goes on by itself, the others get
    one.
    """
    group = [(task, read_lossless(task, range(task.parameters.num_images))) for task in left]
    for task, lossless in group:
        picture_check.check(task.parameters, list(lossless.values()))
    files = process_pictures(group, left[0].recipe.first_version())
    for task, lossless in group:
        save_images(get_store("raw"), task, dict(zip(lossless, files, strict=False)))
        states.mark_processed(task.id, owner=task.stage_owner)
        left.remove(task)
        if task.pk != first.pk:
            stages.send_stages(str(task.id), STAGE.target)
