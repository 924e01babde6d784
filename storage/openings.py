"""Records when images were last opened, without a write per read.

Images younger than _YOUNG_DAYS are not tracked. Of older ones the first opening of a day is buffered in the process and
written with others. If the set (Redis flushed) or the last seconds of a process are lost, an image in use may be
archived; the next request moves it back.
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
_MOST_BUFFERED = 500  # openings


class Openings:
    def __init__(self, redis: Redis, flush_seconds: float = 30.0) -> None:
        self._redis = redis
        self._flush_seconds = flush_seconds
        self._lock = threading.Lock()
        self._today = 0
        self._noted: set[str] = set()
        self._buffered: set[str] = set()
        self._flushed = time.monotonic()

    def note(self, key: str, now: float | None = None) -> None:
        """Record the opening of an original; usually without a write."""
        now = time.time() if now is None else now
        if not keys.is_original(key) or now - keys.created_at(key) < _YOUNG_DAYS * _DAY:
            return
        with self._lock:
            if self._today != int(now // _DAY):
                self._today, self._noted = int(now // _DAY), set()
            if key in self._noted:
                return
            self._noted.add(key)
            self._buffered.add(key)
            due = len(self._buffered) >= _MOST_BUFFERED or time.monotonic() - self._flushed > self._flush_seconds
        if due:
            self.flush()

    def flush(self) -> int:
        """Write the buffered openings; how many. Also called when the process ends."""
        with self._lock:
            buffered, self._buffered = self._buffered, set()
            self._flushed = time.monotonic()
            day = self._today
        if not buffered:
            return 0
        try:
            self._redis.zadd(_SET, dict.fromkeys(buffered, float(day)), gt=True)
        except RedisError:
            with self._lock:
                self._buffered |= buffered
            return 0
        return len(buffered)


@functools.cache
def openings() -> Openings:
    """The buffer of this process."""
    buffer = Openings(redis_clients.cache_client())
    atexit.register(buffer.flush)
    return buffer


def unopened(redis: Redis, originals: Iterable[str], days: int, now: float | None = None) -> list[str]:
    """Those of `originals` (images older than `days`) that were not opened in the last `days`. Deletes older
    entries.
    """
    first = int((time.time() if now is None else now) // _DAY) - days
    redis.zremrangebyscore(_SET, "-inf", first - 1)
    candidates = list(originals)
    scores = redis.zmscore(_SET, candidates) if candidates else []
    return [key for key, score in zip(candidates, scores, strict=True) if score is None]
