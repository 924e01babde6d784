"""Concurrent tasks and daily amounts of a user: admitted in Redis by one atomic script, corrected from Postgres.

A task that ends is not removed from rl:open. The set is compared with Postgres when it is full or absent: ended tasks
are removed and missing open ones added. An id younger than IN_FLIGHT_MS stays even when Postgres does not have it: its
row is being written. So the limit is exact, and the end of a task needs no call to Redis.
"""

import functools
import logging
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import redis
from redis.commands.core import Script

from generation.accounts.models import Plan, User
from generation.admission.rates import seconds_until_midnight
from imagegenx_site import redis_clients
from imagegenx_site.errors import Allowance, TooManyRequests

IN_FLIGHT_MS: Final = 10_000
_WORK_UNIT: Final = 1000  # counted in thousandths of a megapixel-step, in whole numbers
_log = logging.getLogger(__name__)

LookUp = Callable[[int, Collection[str]], tuple[set[str], set[str]]]
"""From a user and the ids counted as open: (all open ids of the user, those of the given ids that have ended)."""


@dataclass(frozen=True)
class Admission:
    """What was counted for one request, so that it can be undone, and what is left."""

    user_id: int = 0
    day: str = ""
    task_ids: tuple[UUID, ...] = ()
    images: int = 0
    work: int = 0
    allowances: tuple[Allowance, ...] = field(default=())


def admit(
    user: User,
    plan: Plan,
    task_ids: Sequence[UUID],
    *,
    images: int,
    megapixel_steps: float,
    look_up: LookUp,
) -> Admission:
    """Count a request's tasks, pictures and work against the plan: all, or none of it.

    Raises TooManyRequests. While Redis is unreachable everything is admitted.
    """
    work = math.ceil(megapixel_steps * _WORK_UNIT)
    day = f"{datetime.now(UTC):%Y%m%d}"
    request = Admission(user.pk, day, tuple(task_ids), images, work)
    try:
        which, open_tasks, used_images, used_work = _count(plan, request, compared=False)
        if which in ("unknown", "concurrent") and _compare_with_postgres(user.pk, look_up, forced=which == "unknown"):
            which, open_tasks, used_images, used_work = _count(plan, request, compared=True)
    except redis.RedisError as error:
        _log.warning("quotas are not counted, Redis is unreachable: %s", error)
        return Admission()
    allowances = _allowances(plan, open_tasks, used_images, used_work)
    if which != "ok":
        raise _refusal(plan, which, allowances)
    return Admission(user.pk, day, request.task_ids, images, work, allowances)


def give_back(admission: Admission) -> None:
    """Undo an admission: no task was created."""
    if not admission.task_ids:
        return
    try:
        with redis_clients.text_client().pipeline(transaction=True) as pipe:
            pipe.zrem(_open_key(admission.user_id), *map(str, admission.task_ids))
            pipe.hincrby(_day_key(admission), "images", -admission.images)
            pipe.hincrby(_day_key(admission), "work", -admission.work)
            pipe.execute()
    except redis.RedisError as error:
        _log.warning("an admission was not given back: %s", error)


def standing(user: User, plan: Plan, look_up: LookUp) -> tuple[Allowance, ...]:
    """What the plan's limits leave of today, without counting anything; nothing while Redis is unreachable."""
    try:
        _compare_with_postgres(user.pk, look_up, forced=False)
        with redis_clients.text_client().pipeline(transaction=False) as pipe:
            pipe.zcard(_open_key(user.pk))
            pipe.hmget(_day_key(Admission(user.pk, f"{datetime.now(UTC):%Y%m%d}")), ["images", "work"])
            open_tasks, used = pipe.execute()
    except redis.RedisError as error:
        _log.warning("quotas are not known, Redis is unreachable: %s", error)
        return ()
    images, work = (int(number or 0) for number in used)
    return _allowances(plan, int(open_tasks), images, work)


def _count(plan: Plan, request: Admission, *, compared: bool) -> tuple[str, int, int, int]:
    work_limit = None if plan.daily_megapixel_steps is None else plan.daily_megapixel_steps * _WORK_UNIT
    limits = [-1 if limit is None else limit for limit in (plan.concurrent_tasks, plan.daily_images, work_limit)]
    args = [int(time.time() * 1000), *limits, request.images, request.work, int(compared), *map(str, request.task_ids)]
    which, *counts = _script()(keys=[_open_key(request.user_id), _day_key(request)], args=args)
    return (which, *(int(count) for count in counts))


def _compare_with_postgres(user_id: int, look_up: LookUp, *, forced: bool) -> bool:
    """Correct rl:open from Postgres; False when that was done within the last 250 ms, unless `forced`."""
    client, key = redis_clients.text_client(), _open_key(user_id)
    if not client.set(f"rl:seen:{user_id}", "1", nx=True, px=250) and not forced:
        return False
    known = dict(client.zrange(key, 0, -1, withscores=True))
    now = time.time() * 1000
    open_tasks, past = look_up(user_id, known.keys())
    ended = [
        member
        for member, admitted in known.items()
        if member not in open_tasks and (member in past or admitted < now - IN_FLIGHT_MS)
    ]
    lost = open_tasks - known.keys()
    with client.pipeline(transaction=True) as pipe:
        if ended:
            pipe.zrem(key, *ended)
        if lost:
            pipe.zadd(key, dict.fromkeys(lost, now))
        pipe.execute()
    return True


def _allowances(plan: Plan, open_tasks: int, used_images: int, used_work: int) -> tuple[Allowance, ...]:
    rest = seconds_until_midnight()
    found = []
    if plan.concurrent_tasks is not None:
        found.append(Allowance("concurrent", plan.concurrent_tasks, 0, max(0, plan.concurrent_tasks - open_tasks), 0))
    if plan.daily_images is not None:
        found.append(Allowance("daily-images", plan.daily_images, 86400, max(0, plan.daily_images - used_images), rest))
    if plan.daily_megapixel_steps is not None:
        left = max(0, plan.daily_megapixel_steps - math.ceil(used_work / _WORK_UNIT))
        found.append(Allowance("daily-work", plan.daily_megapixel_steps, 86400, left, rest))
    return tuple(found)


def _refusal(plan: Plan, which: str, allowances: tuple[Allowance, ...]) -> TooManyRequests:
    if which in ("concurrent", "unknown"):
        message, wait = f"Your plan allows {plan.concurrent_tasks} tasks at once. Wait until one of them has ended.", 1
    else:
        limit = (
            f"{plan.daily_images} pictures" if which == "images" else f"{plan.daily_megapixel_steps} megapixel-steps"
        )
        message, wait = f"Your plan allows {limit} a day. The count restarts at 00:00 UTC.", seconds_until_midnight()
    return TooManyRequests(message, retry_after=wait, allowances=allowances)


def _open_key(user_id: int) -> str:
    return f"rl:open:{user_id}"


def _day_key(admission: Admission) -> str:
    return f"rl:day:{admission.user_id}:{admission.day}"


@functools.cache
def _script() -> Script:
    return redis_clients.load_script(redis_clients.text_client(), Path(__file__).with_suffix(".lua"))
