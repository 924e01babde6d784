"""How long a task will probably take: measured speed of its model, and the work that waits before it.

The GPU workers keep a running mean of seconds per megapixel-step for each model (`note`); the buffer knows the work
that waits.

| key            | type | content                                                     | lifetime  |
|----------------|------|-------------------------------------------------------------|-----------|
| gq:speed       | hash | model key -> s per megapixel-step, exponential running mean | for ever  |
"""

from collections.abc import Sequence

import redis

from generation import events, tickets
from generation.models import Status, Task

SPEED_KEY = "gq:speed"
FIRST_GUESS_S = 0.4  # s per megapixel-step of a small model on a CPU, until something was measured
AFTER_GPU_S = 0.2  # s for post-processing, upload and the rest
_WEIGHT = 0.1  # of a new measurement in the mean


def note(model_key: str, megapixel_steps: float, seconds: float) -> None:
    """A worker's measurement of a finished piece of work. Raises redis.RedisError."""
    if megapixel_steps <= 0 or seconds <= 0:
        return
    measured = seconds / megapixel_steps
    before = events.client().hget(SPEED_KEY, model_key)
    mean = measured if before is None else (1 - _WEIGHT) * float(before) + _WEIGHT * measured
    events.client().hset(SPEED_KEY, model_key, repr(mean))


def seconds_left(task: Task) -> float:
    """Seconds until the task will probably end; 0 for an ended one. Without Redis: from the task's own work alone."""
    if task.terminal:
        return 0.0
    if task.status not in (Status.QUEUED, Status.RUNNING):
        return AFTER_GPU_S
    try:
        known = events.client().hget(SPEED_KEY, task.model_key)
        work: Sequence[float] = tickets.backlog().work if task.status == Status.QUEUED else ()
    except redis.RedisError:
        known, work = None, ()
    return _estimate(task, float(known) if known else None, work)


def seconds_from(task: Task, place: tickets.Place | None) -> float:
    """The same for a task that was enqueued just now; `place` is None when Redis is away."""
    return _estimate(task, place.speed if place else None, place.work if place else ())


def _estimate(task: Task, speed: float | None, work: Sequence[float]) -> float:
    left = task.cost * (100 - task.progress) / 100
    others = max(0.0, sum(work[: task.priority + 1]) / 1e6 - task.cost)
    return round((left + others) * (speed or FIRST_GUESS_S) + AFTER_GPU_S, 2)
