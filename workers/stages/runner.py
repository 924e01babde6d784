"""How a stage runs: lease, work, and what a fault leads to."""

import logging
import socket
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Final, TypeGuard
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from generation.tasks import events, states
from generation.tasks.models import Task
from generation.tasks.stages import Stage
from imagegenx_site import metrics
from postprocessing.errors import PostprocessingError
from workers.stages import picture_check
from workers.stages.files import clear_raw

_log = logging.getLogger(__name__)

RETRY_AFTER_S: Final = (1, 5, 15, 60)  # waits before a failed stage is tried again


def run_stage(stage: Stage, task_text: str, work: Callable[[Task, str], None]) -> None:
    """Take the lease, work; a fault gives the stage back for a later try, the last one fails the task."""
    task_id, owner = UUID(task_text), f"{socket.gethostname()}:{uuid.uuid4().hex[:8]}"
    task = states.take_stage(task_id, stage, owner, settings.STAGE_SECONDS)
    if task is None:
        return
    run_leased(stage, task, owner, work)


def run_leased(stage: Stage, task: Task, owner: str, work: Callable[[Task, str], None]) -> None:
    try:
        with metrics.timed_stage(stage.name):
            work(task, owner)
    except picture_check.PictureRefused as refused:
        _after_fault(task, stage, owner, refused)
    except Exception as error:
        _log.exception("stage failed", extra={"task_id": str(task.id), "stage": stage.name})
        _after_fault(task, stage, owner, error)


def _after_fault(task: Task, stage: Stage, owner: str, error: Exception) -> None:
    if isinstance(error, picture_check.PictureRefused):
        if picture_check.refuse(task, error):
            clear_raw(task)
        return
    tries = task.stage_attempts
    if stage.exhausted == "warn" and (tries >= settings.STAGE_MAX_ATTEMPTS or _is_callers(error)):
        warning = f"The larger version could not be made: {error}"
        states.end_late_step(task.id, owner=owner, warning=warning[:300])
        events.publish(task.id, "updated", {"width": task.width, "height": task.height})
        clear_raw(task)
        return
    if _is_callers(error):  # the same request would fail again
        states.fail(task.id, code=error.code, message=str(error))
        return
    if tries >= settings.STAGE_MAX_ATTEMPTS and stage.exhausted == "fail":
        reason = f"{stage.name} failed {tries} times; the last time: {type(error).__name__}: {error}"
        states.fail(task.id, code=f"{stage.name}_failed", message=reason)
        return
    wait = RETRY_AFTER_S[min(tries, len(RETRY_AFTER_S)) - 1]
    next_at = timezone.now() + timedelta(seconds=wait)
    states.release_stage(task.id, owner=owner, next_at=next_at, reason=f"{stage.name}: {type(error).__name__}: {error}")


def _is_callers(error: Exception) -> TypeGuard[PostprocessingError]:
    return isinstance(error, PostprocessingError) and error.callers_fault
