"""generated -> processed: encoded originals and thumbnails, made together with those of tasks that ask for the same."""

import itertools
import logging
from typing import Final

from celery import shared_task
from django.conf import settings

from generation.catalogue.parameters import Parameters
from generation.tasks import stages, states
from generation.tasks.models import Task
from storage.store import get_store
from workers.stages.files import keep_files, make_files, recipe_of
from workers.stages.runner import run_leased, run_stage

_log = logging.getLogger(__name__)

STAGE: Final = stages.named("postprocess")
GROUP_PIXELS: Final = 4 << 20  # of finished pictures that are worked on together


@shared_task(name=STAGE.name, time_limit=660, soft_time_limit=600)  # s; enlarging on a CPU takes minutes
def postprocess(task_id: str) -> None:
    """generated -> processed."""
    run_stage(STAGE, task_id, _postprocess)


def _postprocess(task: Task, owner: str) -> None:
    """Its pictures, together with those of waiting tasks that ask for the same. A fault stays with the task it came
    from: after one, those that are not done are worked on alone.
    """
    group = [task, *_mates(task, owner)]
    left = _process_together(group, owner) if len(group) > 1 else group
    for mate in left:
        if mate.pk != task.pk:
            run_leased(STAGE, mate, owner, _process)
    if task in left:
        _process(task, owner)


def _mates(task: Task, owner: str) -> list[Task]:
    """Leases on waiting tasks, so many that the group stays quick: a lone task is never kept waiting for mates."""
    parameters = Parameters.from_json(task.params)
    upscale = recipe_of(parameters).first_version().upscale
    pixels = task.width * task.height * parameters.num_images * (upscale.scale**2 if upscale else 1)
    room = min(settings.POSTPROCESS_GROUP, GROUP_PIXELS // pixels) - 1
    if room < 1:
        return []
    return states.take_mates(task, STAGE, owner, settings.STAGE_SECONDS, room)


def _process_together(group: list[Task], owner: str) -> list[Task]:
    """Tasks of one recipe and size as one batch; those that a fault left undone."""
    left = list(group)
    try:
        files = make_files(group, owner)
        for task in group:
            keep_files(get_store("raw"), task, dict(enumerate(itertools.islice(files, task.params["num_images"]))))
            states.mark_processed(task.id, owner=owner)
            left.remove(task)
            if task is not group[0]:  # the first one's chain of messages goes on by itself
                stages.send_stages(str(task.id), STAGE.target)
    except Exception:
        _log.exception("a group failed; %d of %d go on alone", len(left), len(group))
    return left


def _process(task: Task, owner: str) -> None:
    keep_files(get_store("raw"), task, dict(enumerate(make_files([task], owner))))
    states.mark_processed(task.id, owner=owner)
