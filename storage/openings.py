"""When an image was last opened, without a write per read.

Young images count as opened anyway and are not tracked. Of an older one the first opening of a day is collected in
the process and written with others. Losing the set (Redis flushed) or the last seconds of a process costs at most
that an image in use is archived and brought back on the next request.
"""

import atexit
import functools
import threading
import time
from collections.abc import Iterable

from redis import Redis, RedisError

from imagegenx_site import redis_clients
from storage import keys

_SET = "gx:opened"
_YOUNG_DAYS = 7
_DAY = 86400
_MOST = 500  # openings collected before they are written


class Openings:
    """One for each process."""

    def __init__(self, redis: Redis, flush_seconds: float = 30.0) -> None:
        self._redis = redis
        self._flush_seconds = flush_seconds
        self._lock = threading.Lock()
        self._today = 0
        self._seen: set[str] = set()
        self._waiting: set[str] = set()
        self._flushed = time.monotonic()

    def note(self, key: str, now: float | None = None) -> None:
        """The original under `key` is being opened. Costs no write most of the time."""
        now = time.time() if now is None else now
        if not keys.is_original(key) or now - keys.created_at(key) < _YOUNG_DAYS * _DAY:
            return
        with self._lock:
            if self._today != int(now // _DAY):
                self._today, self._seen = int(now // _DAY), set()
            if key in self._seen:
                return
            self._seen.add(key)
            self._waiting.add(key)
            due = len(self._waiting) >= _MOST or time.monotonic() - self._flushed > self._flush_seconds
        if due:
            self.flush()

    def flush(self) -> int:
        """Write what was collected; how many. Call it when the process ends."""
        with self._lock:
            waiting, self._waiting = self._waiting, set()
            self._flushed = time.monotonic()
            day = self._today
        if not waiting:
            return 0
        try:
            self._redis.zadd(_SET, dict.fromkeys(waiting, float(day)), gt=True)
        except RedisError:
            with self._lock:
                self._waiting |= waiting
            return 0
        return len(waiting)


@functools.cache
def openings() -> Openings:
    """This process's collector; what it holds is written when the process ends."""
    collector = Openings(redis_clients.cache_client())
    atexit.register(collector.flush)
    return collector


def unopened(redis: Redis, originals: Iterable[str], days: int, now: float | None = None) -> list[str]:
    """Those of `originals` (images older than `days`) that nobody opened in the last `days`. Older openings are
    forgotten.
    """
    first = int((time.time() if now is None else now) // _DAY) - days
    redis.zremrangebyscore(_SET, "-inf", first - 1)
    asked = list(originals)
    scores = redis.zmscore(_SET, asked) if asked else []
    return [key for key, score in zip(asked, scores, strict=True) if score is None]
