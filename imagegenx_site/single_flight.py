"""Single flight across processes, over Redis: of many callers that want one result, one does the work.

Redis may vanish at any time: then everybody does the work, which is idempotent.
"""

import secrets
import time
from collections.abc import Callable
from typing import Final, TypeVar

from redis import Redis, RedisError

from imagegenx_site.redis_clients import load_script

T = TypeVar("T")
POLL_S: Final = 0.01  # between looks at whether the holder has finished
_RELEASE: Final = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


class FlightLock:
    """The key of one work, held by the caller that does it: a random token that expires after `seconds`.

    A holder that dies is followed by another after `seconds`; one that is slower may be joined by a second.
    """

    def __init__(self, redis: Redis, key: str, seconds: float) -> None:
        self.token: Final = secrets.token_hex(8)
        self._redis, self._key, self._seconds = redis, key, seconds

    def acquire(self, ready: Callable[[], T | None]) -> T | None:
        """None: the lock is this caller's, who does the work and releases. Else what `ready` has, made by another.

        Races: 1 take the lock, or wait until `ready` has something; 2 look once more, the last holder may have finished
        just before 1. Raises RedisError.
        """
        while not self._redis.set(self._key, self.token, nx=True, px=int(self._seconds * 1000)):
            time.sleep(POLL_S)
            found = ready()
            if found is not None:
                return found
        found = ready()
        if found is not None:
            self.release()
        return found

    def release(self) -> None:
        """Unless it expired and belongs to another caller by now. Without Redis it expires by itself."""
        try:
            load_script(self._redis, _RELEASE)(keys=[self._key], args=[self.token])
        except RedisError:
            return


def coalesce(redis: Redis, name: str, ready: Callable[[], T | None], work: Callable[[], T], seconds: float) -> T:
    """What `ready` has, or what `work` makes; of many callers at one time only one works, the others wait for `ready`.

    `seconds`: how long the work may take.
    """
    found = ready()
    if found is not None:
        return found
    lock = FlightLock(redis, f"gx:once:{name}", seconds)
    try:
        found = lock.acquire(ready)
    except RedisError:
        return work()
    if found is not None:
        return found
    try:
        return work()
    finally:
        lock.release()
