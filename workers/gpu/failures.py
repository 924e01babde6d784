"""What happens to a task whose inference failed: classified here into a value, acted upon in one place.

the caller's fault            -> fail at once: the same request would fail again
first failure on a model      -> retry, alone, on any worker
second failure on a model     -> the model's fallback if it has one (counting starts again), else fail

And when the device or the engine failed under it (`after_device_loss`):

in a batch                    -> again, alone
alone, for the first time     -> again, alone: a bad device fails under whoever is on it
alone, for the second time    -> fail
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from generation.catalogue.models import ImageModel
from generation.tasks import states
from generation.tasks.models import Task
from generation.tasks.reasons import Code, Reason, codes
from workers.gpu.held_tasks import Settlement


class Next(Enum):
    """The way on for a task after a failure."""

    RETRY = "retry"
    FALL_BACK = "fall back"
    FAIL = "fail"


def failures_on_this_model(history: Sequence[Mapping[str, Any]]) -> int:
    """Failed inferences noted in a row's history since it last changed its model."""
    count = 0
    for code in codes(history):
        if code == Code.FELL_BACK:
            count = 0
        elif code == Code.INFERENCE_FAILED:
            count += 1
    return count


def classify(*, retryable: bool, earlier_failures: int, has_fallback: bool) -> Next:
    """The rule at the top of this module."""
    if not retryable:
        return Next.FAIL
    if earlier_failures == 0:
        return Next.RETRY
    return Next.FALL_BACK if has_fallback else Next.FAIL


def after_failure(task: Task, worker: str, error: Exception, *, retryable: bool) -> Settlement:
    """Moves the row on; answers what its buffer entry becomes. `task` is the row as this worker claimed it."""
    cause = f"inference failed: {type(error).__name__}: {error}"
    fallback = usable_fallback(task)
    earlier = failures_on_this_model(task.history)
    way = classify(retryable=retryable, earlier_failures=earlier, has_fallback=fallback is not None)
    if way is Next.RETRY:
        states.hand_back(task.id, worker=worker, attempt=task.attempt, reason=Reason(Code.INFERENCE_FAILED, cause))
        return Settlement("alone")
    if way is Next.FALL_BACK and fallback is not None:
        moved = states.fall_back(task, fallback, worker=worker, attempt=task.attempt, cause=cause)
        return Settlement("ended", enqueue_again=moved)
    code = "inference_failed" if retryable else "invalid_request"
    states.fail(task.id, code=code, message=str(error) or cause, worker=worker, attempt=task.attempt)
    return Settlement("ended")


def after_device_loss(task: Task, worker: str, reason: str, *, alone: bool) -> Settlement:
    """The same for a task under which the device or the engine failed; it counts as an attempt."""
    if alone and Code.DEVICE_LOST_ALONE in codes(task.history):
        message = f"The task lost its device twice while it ran alone ({reason})."
        states.fail(task.id, code="worker_crashed", message=message, worker=worker, attempt=task.attempt)
        return Settlement("ended")
    lone = Reason(Code.DEVICE_LOST_ALONE, f"lost its device while it ran alone: {reason}")
    noted = lone if alone else Reason(Code.DEVICE_LOST, reason)
    states.hand_back(task.id, worker=worker, attempt=task.attempt, reason=noted)
    return Settlement("alone")


def fallback_warnings(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """For the client: that another model than the one asked for makes the picture, and why."""
    return [
        f"made by model {entry.get('model', '')}, because the one asked for failed: {entry.get('cause', '')}"
        for entry in history
        if entry.get("code") == Code.FELL_BACK
    ]


def usable_fallback(task: Task) -> ImageModel | None:
    """The model that may stand in for the task's own, if it can do what the task asks for."""
    model = task.model.fallback
    if model is None or not model.enabled:
        return None
    fits = task.kind in model.kinds and max(task.width, task.height) <= model.max_side
    return model if fits else None
