"""The spans of a task's run on this worker, made from the times that the engine noted, in a side thread."""

import time

from imagegenx_site.tracing import spans
from imagegenx_site.tracing.values import TaskSpan, root_of
from workers.engine.requests import SampleTimes
from workers.gpu.outcomes import End, Outcome
from workers.gpu.running_tasks import RunningTask

_NO_FAULT = (End.FINISHED, End.CANCELLED, End.RETURNED, End.STOPPED)


def record_run(running: RunningTask, outcome: Outcome) -> None:
    """`run` and its children, when the outcome is known. The pictures of a task step side by side: a child begins with
    the first one's and ends with the last one's.
    """
    if not spans.ENABLED:
        return
    task, now, mono = running.task, time.time(), time.monotonic()
    wall = now - mono  # what to add to the engine's moments
    run_id = (root_of(task.id) + task.attempt) & (2**64 - 1) or 1  # of this attempt, the same if recorded twice
    error = "" if outcome.end in _NO_FAULT else f"{outcome.end}: {outcome.error or ''}".rstrip(": ")
    attributes: dict[str, str | int | float | bool] = {
        "model": task.model_key,
        "precision": running.spec.precision,
        "size": f"{task.width}x{task.height}",
        "pictures": len(running.samples),
        "reused": len(running.reused),
        "attempt": task.attempt,
        "worker": task.worker,
        "outcome": str(outcome.end),
    }
    times = list(running.times.values())
    ended = max((one.decode_until + wall for one in times if one.decode_until), default=now)
    spans.record(TaskSpan(task.id, "run", task.updated_at.timestamp(), ended, attributes, error, span_id=run_id))
    arrived = min((sample.arrived for sample in running.samples), default=mono)
    for name, began, until, more in _parts(times, arrived):
        spans.record(TaskSpan(task.id, name, began + wall, until + wall, more, parent=run_id))


def _parts(times: list[SampleTimes], arrived: float) -> list[tuple[str, float, float, dict[str, float]]]:
    """(name, from, until, attributes) of what the samples went through; nothing of what none has reached."""
    begun = [one for one in times if one.began]
    if not begun:
        return []
    began = min(one.began for one in begun)
    found: list[tuple[str, float, float, dict[str, float]]] = [("load", min(arrived, began), began, {})]
    stepped = [one for one in begun if one.steps]
    if stepped:
        first = min(one.denoise_from for one in stepped)
        found.append(("encode", began, first, {}))
        steps = sum(one.steps for one in stepped)
        more: dict[str, float] = {
            "steps": steps,
            "mean_batch": round(sum(one.joined for one in stepped) / steps, 2),
            "paused_s": round(sum(one.paused for one in stepped), 4),
        }
        found.append(("denoise", first, max(one.denoise_until for one in stepped), more))
    decoded = [one for one in begun if one.decode_from and one.decode_until]
    if decoded:
        found.append(("decode", min(one.decode_from for one in decoded), max(one.decode_until for one in decoded), {}))
    return found
