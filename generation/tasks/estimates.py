"""How many tasks come before a waiting one, and how long it will probably take: the work that waits before it, by the
measured speed of the workers.

The GPU workers keep running means of what they measure (`note`), the last stage of how long the others take
(gq:speed, imagegenx_site/redis_clients.py).

    waiting    work of all classes that will be done before it, at their shares, / (workers x speed), then as running
    running    steps left x s per step, then as after
    without a model   its place among what waits for the CPU workers; the time as after
    after      s that post-processing, upload and the rest take, for tasks of its class
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import redis
from django.conf import settings

from generation.catalogue.kinds import needs_model
from generation.catalogue.parameters import Parameters
from generation.queue import client as queue_client
from generation.tasks.models import Status, Task
from imagegenx_site import redis_clients
from imagegenx_site.ids import first_id_of
from imagegenx_site.ttl import TtlValue

SPEED_KEY: Final = "gq:speed"
FIRST_GUESS_S: Final = 0.4  # s per megapixel-step of a small model on a CPU, until something was measured
AFTER_GPU_S: Final = 0.2  # s, until it was measured
BACKLOG_AGE_S: Final = 0.5  # how old `seconds_waiting` may be
_OLDEST_WAIT: Final = timedelta(days=1)  # of tasks that are counted, so that few partitions are read
_WEIGHT: Final = 0.1  # of a new measurement in the mean


@dataclass(frozen=True)
class Outlook:
    """`position`: the task's place among all that wait, 1 comes next, None when it does not wait. `seconds` until it
    ends, 0.0 for an ended task.
    """

    position: int | None
    seconds: float


def note(measured: Mapping[str, float]) -> None:
    """Measurements by the hash's fields, in s; they go into the running means. Raises redis.RedisError."""
    names = [name for name, value in measured.items() if value > 0]
    if not names:
        return
    known = redis_clients.text_client().hmget(SPEED_KEY, names)
    means = {
        name: measured[name] if before is None else (1 - _WEIGHT) * float(before) + _WEIGHT * measured[name]
        for name, before in zip(names, known, strict=True)
    }
    redis_clients.text_client().hset(SPEED_KEY, mapping={name: repr(mean) for name, mean in means.items()})


def outlook(task: Task) -> Outlook:
    """What can be said about the task now. Without Redis: from its own work alone."""
    if task.terminal:
        return Outlook(None, 0.0)
    try:
        return outlook_from(task, queue_client.queue_position(task.id, task.batch_key))
    except redis.RedisError:
        return outlook_from(task, None)


def seconds_of(wanted: Sequence[Parameters], priority: int) -> float:
    """Seconds until tasks that nobody has made yet would all have ended, behind everything of their class; of those
    without a model as long as the stages after the GPU take.
    """
    with_model = [one for one in wanted if needs_model(one.kind)]
    cost = sum(one.cost for one in with_model)
    try:
        place = queue_client.queue_position("", "")
    except redis.RedisError:
        return round(cost * FIRST_GUESS_S + AFTER_GPU_S, 2)
    full, after = place.s_per_megapixel_step or FIRST_GUESS_S, place.s_after_gpu or AFTER_GPU_S
    if not with_model:
        return round(after, 2)
    behind = replace(place, ahead=place.backlog.tasks[priority])
    _, before = before_it(behind, priority, settings.QUEUE_SHARES)
    shared = (before / 1e6 + cost) * full / max(1, place.backlog.workers)
    return round(max(shared, max(one.steps for one in with_model) * (place.s_per_step or 0.0)) + after, 2)


def outlook_from(task: Task, place: queue_client.QueuePosition | None) -> Outlook:
    """The same for an open task whose place is known; None: Redis is away."""
    full = place.s_per_megapixel_step if place and place.s_per_megapixel_step else FIRST_GUESS_S
    after = place.s_after_gpu if place and place.s_after_gpu else AFTER_GPU_S
    if task.status not in (Status.QUEUED, Status.RUNNING):
        return Outlook(_before_its_stage(task) + 1 if task.waits else None, round(after, 2))
    alone = task.parameters.steps * place.s_per_step if place and place.s_per_step else 0.0
    left = max(alone, task.cost * full) * (100 - task.progress) / 100 + after
    if task.status != Status.QUEUED or place is None or not place.waiting:
        return Outlook(None, round(left, 2))
    before, work = before_it(place, task.priority, settings.QUEUE_SHARES)
    return Outlook(before + 1, round(work / 1e6 * full / max(1, place.backlog.workers) + left, 2))


def _before_its_stage(task: Task) -> int:
    """How many tasks of its class and those above wait for the same stage and came before."""
    older = Task.objects.filter(id__gt=first_id_of(task.created_at.date() - _OLDEST_WAIT), id__lt=task.id)
    return older.filter(status=task.status, stage_owner="", priority__lte=task.priority).count()


def before_it(place: queue_client.QueuePosition, class_: int, shares: Sequence[float]) -> tuple[int, float]:
    """How many waiting tasks will be started before one at `place` in its class, and their work.

    The classes are served at their shares; one that runs empty leaves its share to the others.
    """
    backlog = place.backlog
    mean = [work / max(1, tasks) for work, tasks in zip(backlog.work, backlog.tasks, strict=True)]
    left = list(backlog.work)
    left[class_] = place.ahead * mean[class_]
    done = [0.0] * len(left)
    while left[class_] > 0:
        active = [other for other, work in enumerate(left) if work > 0]
        moment = min(left[other] / shares[other] for other in active)
        for other in active:
            served = min(left[other], moment * shares[other])
            done[other] += served
            left[other] = 0.0 if left[other] / shares[other] <= moment else left[other] - served
    others = sum(done[other] / mean[other] for other in range(len(done)) if other != class_ and mean[other] > 0)
    return place.ahead + round(others), sum(done)


def _measure_backlog() -> float:
    try:
        place = queue_client.queue_position("", "")
    except redis.RedisError:
        return 0.0
    speed = place.s_per_megapixel_step or FIRST_GUESS_S
    return sum(place.backlog.work) / 1e6 * speed / max(1, place.backlog.workers)


backlog_seconds = TtlValue(_measure_backlog, BACKLOG_AGE_S)


def seconds_waiting() -> float:
    """Seconds of work that wait, for all workers together; 0 while Redis is away. Up to BACKLOG_AGE_S old."""
    return backlog_seconds.get()
