"""A cache in Redis that may vanish at any time: task status, URLs, thumbnails, key and plan settings, LoRA metadata.

    gx:cache:{name}:v:{key}     string: one sign ("+" there is a value, "-" known to be nothing), then the value;
    expires gx:cache:{name}:due         sorted set: key -> when it expires (ms); only for caches bounded in bytes
    gx:cache:{name}:size        hash: key -> bytes; field "" holds the sum; only for caches bounded in bytes
    gx:once:cache:{name}:{key}  the lock of the one loader (storage/once.py)

Redis runs without eviction, so a cache of large values is bounded here: what expires soonest leaves first.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from redis import Redis, RedisError

from storage.once import once

_JITTER = 0.1  # part by which lifetimes vary, so that what was loaded together does not expire together
_LOAD_SECONDS = 10.0

# KEYS: value, due, size. ARGV: key, value, lifetime ms, now ms, bound in bytes. Drops what expired, then what
# expires soonest.
_STORE_BOUNDED = """
local function drop(key)
  local size = tonumber(redis.call('hget', KEYS[3], key) or '0')
  redis.call('hdel', KEYS[3], key)
  redis.call('zrem', KEYS[2], key)
  redis.call('hincrby', KEYS[3], '', -size)
end
local prefix = string.sub(KEYS[1], 1, #KEYS[1] - #ARGV[1])
for _, key in ipairs(redis.call('zrangebyscore', KEYS[2], '-inf', ARGV[4], 'limit', 0, 100)) do drop(key) end
drop(ARGV[1])
local size, bound = #ARGV[2], tonumber(ARGV[5])
if size > bound then redis.call('del', KEYS[1]) return 0 end
while tonumber(redis.call('hget', KEYS[3], '') or '0') + size > bound do
  local oldest = redis.call('zrange', KEYS[2], 0, 0)[1]
  if not oldest then break end
  redis.call('del', prefix .. oldest)
  drop(oldest)
end
redis.call('set', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('zadd', KEYS[2], tonumber(ARGV[4]) + tonumber(ARGV[3]), ARGV[1])
redis.call('hset', KEYS[3], ARGV[1], size)
redis.call('hincrby', KEYS[3], '', size)
return 1
"""


@dataclass(frozen=True)
class CacheConfig:
    """`seconds` that a value lives, `absent_seconds` that "nothing there" is remembered, `max_bytes` of all values,
    0 for unbounded.
    """

    name: str
    seconds: float
    absent_seconds: float = 60.0
    max_bytes: int = 0


class Cache:
    """Values are bytes; `get` loads what is missing, by one caller at a time for each key."""

    def __init__(self, redis: Redis, config: CacheConfig) -> None:
        self._redis = redis
        self.config = config
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def get(self, key: str, load: Callable[[], bytes | None]) -> bytes | None:
        """The value under `key`; what `load` gives when it is not cached. None from `load` means "there is none" and
        is remembered too.

        Without Redis every call loads.
        """
        entry = self._look(key)
        self._count("hits" if entry else "misses")
        if entry is None:
            entry = once(
                self._redis,
                f"cache:{self.config.name}:{key}",
                lambda: self._look(key),
                lambda: self._load(key, load),
                _LOAD_SECONDS,
            )
        return entry[1:] if entry[:1] == b"+" else None

    def forget(self, key: str) -> None:
        """The value has changed. A loader that is under way may still store the old one: keep lifetimes short where
        that matters.
        """
        try:
            self._redis.delete(self._key(key))
        except RedisError:  # it expires by itself
            return

    def counts(self) -> dict[str, int]:
        """Hits, misses and errors of this process since it started."""
        with self._lock:
            return {name: self._counts[name] for name in ("hits", "misses", "errors")}

    def _look(self, key: str) -> bytes | None:
        try:
            return self._redis.get(self._key(key))
        except RedisError:
            self._count("errors")
            return None

    def _load(self, key: str, load: Callable[[], bytes | None]) -> bytes:
        value = load()
        entry = b"-" if value is None else b"+" + value
        seconds = self.config.absent_seconds if value is None else self.config.seconds
        lifetime = max(1, int(seconds * 1000 * random.uniform(1 - _JITTER, 1 + _JITTER)))
        try:
            self._store(key, entry, lifetime)
        except RedisError:
            self._count("errors")
        return entry

    def _store(self, key: str, entry: bytes, lifetime: int) -> None:
        if not self.config.max_bytes:
            self._redis.set(self._key(key), entry, px=lifetime)
            return
        base = f"gx:cache:{self.config.name}"
        seconds, micros = self._redis.time()
        now = seconds * 1000 + micros // 1000
        names = (self._key(key), f"{base}:due", f"{base}:size")
        self._redis.eval(_STORE_BOUNDED, 3, *names, key, entry, lifetime, now, self.config.max_bytes)

    def _key(self, key: str) -> str:
        return f"gx:cache:{self.config.name}:v:{key}"

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1
