"""A step of the wall clock, without touching the machine's: every moment that is stored moves the other way.

A clock that jumps a minute ahead makes each stored moment a minute older, and nothing else: leases, deadlines, rests
and times of last moves in Redis and Postgres are all that the product compares with the clock. Monotonic clocks do not
jump, here as there.
"""

from datetime import timedelta

from django.db.models import F
from redis import Redis

from generation.tasks.models import OPEN, Task

TIMES_OF_TASK = ("sc", "exp")  # ms, in gq:t:{id}; exp 0 means never


def step(redis: Redis, seconds: int) -> None:
    """The clock goes `seconds` ahead (back when negative) for everything that waits or runs."""
    milliseconds = 1000 * seconds
    with redis.pipeline(transaction=True) as pipe:
        for worker in redis.zrange("gq:lease", 0, -1):
            pipe.zincrby("gq:lease", -milliseconds, worker)
        for name in ("gq:lastbeat", "gq:grace"):
            if redis.exists(name):
                pipe.decrby(name, milliseconds)
        for tag in redis.zrange("unacked_index", 0, -1):
            pipe.zincrby("unacked_index", -seconds, tag)
        for key in redis.scan_iter("gq:t:*", count=1000):
            for field in TIMES_OF_TASK:
                if int(float(redis.hget(key, field) or 0)):
                    pipe.hincrbyfloat(key, field, -milliseconds)
        pipe.execute()
    moved = timedelta(seconds=seconds)
    rows = Task.objects.filter(status__in=OPEN)
    rows.update(expires_at=F("expires_at") - moved, updated_at=F("updated_at") - moved)
    rows.exclude(stage_until=None).update(stage_until=F("stage_until") - moved)
