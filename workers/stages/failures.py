"""What a failure in a stage leads to: classified into a value, then carried out, once.

value      the failure                                              its consequence
Refused    the content policy does not allow a picture              the task fails; the refusal is written down
TaskFails  the same request would fail again, or no try is left     the task fails
           (two tries where the data itself makes the code fail)
GivenUp    the same, of a task whose pictures are delivered         the client is warned
Retry      anything else                                            the lease is given back; the reconciler sends
                                                                    the stage again
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.utils import timezone

from generation.tasks import events, states
from generation.tasks.models import Task
from generation.tasks.stages import Stage
from imagegenx_site import metrics
from postprocessing.errors import PostprocessingError
from workers.stages import picture_check
from workers.stages.images import clear_raw

SAME_AGAIN_TRIES: Final = 2  # of a failure that a second look at the same data hardly mends
RETRY_AFTER_S: Final = (1, 5, 15, 60)  # waits before a failed stage is tried again
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refused:
    refusal: picture_check.PictureRefused


@dataclass(frozen=True)
class TaskFails:
    code: str
    message: str


@dataclass(frozen=True)
class GivenUp:
    warning: str


@dataclass(frozen=True)
class Retry:
    seconds: float
    reason: str


Consequence = Refused | TaskFails | GivenUp | Retry


@contextmanager
def handle_failures(stage: Stage, task: Task) -> Iterator[None]:
    """Around the work on a leased task: times it, and carries out what a failure leads to. Raises nothing."""
    try:
        with metrics.timed_stage(stage.name):
            yield
    except Exception as error:
        if not isinstance(error, picture_check.PictureRefused):
            _log.exception("stage failed", extra={"task_id": str(task.id), "stage": stage.name})
        consequence = classify(stage, task.stage_attempts, error)
        if _carry_out(task, consequence):
            clear_raw(task, task.image_rows)


def classify(stage: Stage, tries: int, error: Exception) -> Consequence:
    """What follows from the error of try number `tries`."""
    if isinstance(error, picture_check.PictureRefused):
        return Refused(error)
    reason = f"{type(error).__name__}: {error}"
    callers_code = error.code if isinstance(error, PostprocessingError) and error.callers_fault else ""
    most = min(SAME_AGAIN_TRIES, settings.STAGE_MAX_ATTEMPTS) if _is_same_again(error) else settings.STAGE_MAX_ATTEMPTS
    if stage.on_last_failure == "never_give_up" or not (callers_code or tries >= most):
        return Retry(RETRY_AFTER_S[min(tries, len(RETRY_AFTER_S)) - 1], f"{stage.name}: {reason}")
    if stage.on_last_failure == "warn":
        return GivenUp(f"The larger version could not be made: {error}")
    if callers_code:
        return TaskFails(callers_code, str(error))
    return TaskFails(f"{stage.name}_failed", f"{stage.name} failed {tries} times; the last time: {reason}")


def _is_same_again(error: Exception) -> bool:
    """Whether the same input will very likely fail in the same way: no disk, store, network or lease is involved."""
    return isinstance(error, ValueError | TypeError | ArithmeticError | LookupError | AssertionError)


def _carry_out(task: Task, consequence: Consequence) -> bool:
    """Answers whether nothing in the raw store is needed any more. The files of a task that fails for another cause
    stay for a while (workers/housekeeping/raw_store.py).
    """
    match consequence:
        case Refused(refusal):
            return picture_check.refuse(task, refusal)
        case TaskFails(code, message):
            states.fail(task.id, code=code, message=message)
        case GivenUp(warning):
            states.end_enlargement(task.id, owner=task.stage_owner, warning=warning[:300])
            events.publish(task.id, "updated", {"width": task.width, "height": task.height})
            return True
        case Retry(seconds, reason):
            next_at = timezone.now() + timedelta(seconds=seconds)
            states.release_stage(task.id, owner=task.stage_owner, next_at=next_at, reason=reason)
    return False
