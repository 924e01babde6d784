"""generated -> processed: encoded originals and thumbnails, made together with those of tasks with the same work."""

import logging
from collections.abc import Iterator, Sequence
from typing import Final

from celery import shared_task
from django.conf import settings

from generation.tasks import stages, states
from generation.tasks.models import Task
from imagegenx_site import metrics
from imagegenx_site.tracing import spans
from postprocessing.pipeline import untimed
from storage.store import get_store
from workers.stages import lease, picture_check, visit
from workers.stages.encode import process_pictures, read_lossless
from workers.stages.failures import handle_failures
from workers.stages.images import save_images
from workers.stages.step_times import StepTimes

STAGE: Final = stages.named("postprocess")
GROUP_PIXELS: Final = 4 << 20  # of finished pictures that are worked on together
_log = logging.getLogger(__name__)


@shared_task(name=STAGE.name, time_limit=660, soft_time_limit=600)  # s; enlarging on a CPU takes minutes
def postprocess(task_id: str) -> None:
    """A task, and with it waiting ones with the same work; then what follows in the same visit. Where nothing does, the
    first one's chain of messages goes on by itself, the others get one.
    """
    first = lease.take(STAGE, task_id)
    if first is None:
        return
    for done in list(_process_group(first)):
        visit.go_on(STAGE, done, chained=done is first)


def _process_group(first: Task) -> Iterator[Task]:
    """Yields each task when it is processed. A failure stays with its task: after one in the group, those that are
    left are processed alone.
    """
    left = [first]
    try:
        left += _take_same_work(first)
        if len(left) > 1:
            with metrics.timed_stage(STAGE.name):
                for done in _postprocess(*left):
                    left.remove(done)
                    yield done
    except Exception:
        _log.exception("a group failed; %d go on alone", len(left))
    for task in left:
        with handle_failures(STAGE, task):
            yield from _postprocess(task)


def _take_same_work(task: Task) -> Sequence[Task]:
    """Leases on waiting tasks with the same work, so many that the group stays quick. Nothing waits for them."""
    upscale = task.recipe.first_version().upscale
    pixels = task.width * task.height * task.parameters.num_images * (upscale.scale**2 if upscale else 1)
    room = min(settings.POSTPROCESS_GROUP, GROUP_PIXELS // pixels) - 1
    taken = states.take_same_work(task, STAGE, task.stage_owner, settings.STAGE_SECONDS, room) if room > 0 else []
    return [lease.announce_begin(one) for one in taken]


def _postprocess(task: Task, *others: Task) -> Iterator[Task]:
    """The first versions of tasks with the same work, made as one batch once the content policy has looked at the
    pictures: read, check, encode, save, move. Yields each task when its row has moved.
    """
    times = StepTimes() if spans.ENABLED else None
    timed = times.timed if times else untimed
    try:
        with timed("read"):
            group = [(each, read_lossless(each, range(each.parameters.num_images))) for each in (task, *others)]
        with timed("check"):
            for each, lossless in group:
                picture_check.check(each.parameters, list(lossless.values()))
        files = process_pictures(group, task.recipe.first_version(), times)
        for each, lossless in group:
            made = dict(zip(lossless, files, strict=False))
            with timed("save"):
                save_images(get_store("raw"), each, made)
            visit.leave(STAGE, each, states.mark_processed)
            if times:
                times.record(each, len(group))
            yield each
    except Exception as error:
        if times:
            times.record(task, 1 + len(others), f"{type(error).__name__}: {error}")
        raise
