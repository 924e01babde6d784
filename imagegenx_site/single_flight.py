"""Work that many ask for at once and one does: single flight across processes, over Redis.

    gx:once:{name}   string, a random token of the worker; lives as long as the work may take

Redis may vanish at any time: then everybody does the work, which is idempotent.
"""

import secrets
import time
from collections.abc import Callable
from typing import TypeVar

from redis import Redis, RedisError

T = TypeVar("T")
_POLL = 0.02  # s between looks at whether the other has finished
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


def once(redis: Redis, name: str, ready: Callable[[], T | None], work: Callable[[], T], seconds: float) -> T:
    """What `ready` has, or what `work` makes; of many callers at one time only one works, the others wait for `ready`.

    Races: 1 look, 2 take the lock, 3 look again (the last holder may have finished between 1 and 2), 4 work, 5
    release if still ours. A worker that dies is followed by another after `seconds`; one that is slower than
    `seconds` may be joined by a second.
    """
    lock = f"gx:once:{name}"
    token = secrets.token_hex(8)
    while True:
        found = ready()
        if found is not None:
            return found
        try:
            taken = redis.set(lock, token, nx=True, px=int(seconds * 1000))
        except RedisError:
            return work()
        if taken:
            break
        time.sleep(_POLL)
    try:
        found = ready()
        return found if found is not None else work()
    finally:
        _release(redis, lock, token)


def _release(redis: Redis, lock: str, token: str) -> None:
    try:
        redis.eval(_RELEASE, 1, lock, token)
    except RedisError:  # it expires by itself
        return
