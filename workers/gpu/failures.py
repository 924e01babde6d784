"""What happens to a task whose inference failed, by the codes in its row's history.

the caller's fault            fails at once: the same request would fail again
first failure on a model      once more, alone, on any worker
second failure on a model     on the model's fallback if it has one (counting starts again), else it fails

And when the device or the engine failed under it:

in a batch                    once more, alone
alone, for the first time     once more, alone: a bad device fails under whoever is on it
alone, for the second time    fails
"""

from collections.abc import Mapping, Sequence
from typing import Any

from generation.catalogue.models import ImageModel
from generation.queue.values import Release
from generation.tasks.models import Task
from generation.tasks.reasons import Code, codes

History = Sequence[Mapping[str, Any]]


def after_failure(history: History, *, retryable: bool, has_fallback: bool) -> Release:
    """ALONE: once more; MOVED: on the fallback; ENDED: it fails."""
    if not retryable:
        return Release.ENDED
    if failures_on_this_model(history) == 0:
        return Release.ALONE
    return Release.MOVED if has_fallback else Release.ENDED


def failures_on_this_model(history: History) -> int:
    """Failed inferences noted in a row's history since it last changed its model."""
    count = 0
    for code in codes(history):
        if code == Code.FELL_BACK:
            count = 0
        elif code == Code.INFERENCE_FAILED:
            count += 1
    return count


def after_device_loss(history: History, *, alone: bool) -> Release:
    """ALONE: once more; ENDED: it fails."""
    return Release.ENDED if alone and Code.DEVICE_LOST_ALONE in codes(history) else Release.ALONE


def usable_fallback(task: Task) -> ImageModel | None:
    """The model that may stand in for the task's own, if it can do what the task asks for."""
    model = task.drawing_model.fallback
    if model is None or not model.enabled:
        return None
    fits = task.kind in model.kinds and max(task.width, task.height) <= model.max_side
    return model if fits else None


def fallback_warnings(history: History) -> list[str]:
    """For the client: that another model than the one asked for makes the picture, and why."""
    return [
        f"made by model {entry.get('model', '')}, because the one asked for failed: {entry.get('cause', '')}"
        for entry in history
        if entry.get("code") == Code.FELL_BACK
    ]
