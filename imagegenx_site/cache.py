"""A cache in Redis that may vanish at any time, and never gives back what was true before a change.

Its keys are gx:cache:{name}:* (imagegenx_site/redis_clients.py).

Redis runs without eviction, so a cache of large values is bounded here: what expires soonest leaves first.

A change of the truth goes: `block` (nothing is cached for a while), write and commit, `invalidate`. Both delete the
lock of whoever is loading, so that a loader which read the old row cannot store it. A writer that dies in between
leaves the block, which expires. So a reader of the cache never sees an older state than a reader of the truth saw
before.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from redis import Redis, RedisError
from redis.client import Pipeline

from imagegenx_site.metrics import CACHE_CALLS
from imagegenx_site.redis_clients import load_script
from imagegenx_site.single_flight import FlightLock

Answer = TypeVar("Answer")
_JITTER: Final = 0.1  # part by which lifetimes vary, so that what was loaded together does not expire together
_LOAD_S: Final = 10.0  # a loader that takes longer is followed by another, and may not store any more
_BLOCKED: Final = b"~"
_BLOCK_MS: Final = 5_000  # longer than a transaction takes
_PAUSE_S: Final = 1.0  # after a failed call Redis is left alone for so long: an outage costs each request nothing

# KEYS: value, lock, due, size. ARGV: token, entry, lifetime ms, key, bound in bytes (0: none). Drops what expired, then
# what expires soonest.
_STORE: Final = """
if redis.call('get', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('del', KEYS[2])
if redis.call('get', KEYS[1]) == '~' then return 0 end
local size, bound, key = #ARGV[2], tonumber(ARGV[5]), ARGV[4]
if bound > 0 then
  local function drop(old)
    local freed = tonumber(redis.call('hget', KEYS[4], old) or '0')
    redis.call('hdel', KEYS[4], old)
    redis.call('zrem', KEYS[3], old)
    redis.call('hincrby', KEYS[4], '', -freed)
  end
  local time = redis.call('time')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local prefix = string.sub(KEYS[1], 1, #KEYS[1] - #key)
  for _, old in ipairs(redis.call('zrangebyscore', KEYS[3], '-inf', now, 'limit', 0, 100)) do drop(old) end
  drop(key)
  if size > bound then redis.call('del', KEYS[1]) return 0 end
  while tonumber(redis.call('hget', KEYS[4], '') or '0') + size > bound do
    local oldest = redis.call('zrange', KEYS[3], 0, 0)[1]
    if not oldest then break end
    redis.call('del', prefix .. oldest)
    drop(oldest)
  end
  redis.call('zadd', KEYS[3], now + tonumber(ARGV[3]), key)
  redis.call('hset', KEYS[4], key, size)
  redis.call('hincrby', KEYS[4], '', size)
end
redis.call('set', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""


class _RedisAway(Exception):
    """Redis does not answer: go on without it."""


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
        self._store_script = load_script(redis, _STORE)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._away_until = 0.0
        self._pending: set[str] = set()  # keys that could not be invalidated while Redis was away

    def get(
        self, key: str, load: Callable[[], bytes | None], seconds: Callable[[bytes], float] | None = None
    ) -> bytes | None:
        """The value under `key`; what `load` gives when it is not cached. None from `load` means "there is none" and
        is remembered too. `seconds` gives the lifetime of a loaded value where it is not the same for all.

        Without Redis every call loads.
        """
        try:
            entry = self._look(key)
        except _RedisAway:
            return load()
        if entry is not None and entry != _BLOCKED:
            self._count("hits")
            return _value(entry)
        self._count("misses")
        return load() if entry == _BLOCKED else self._load_once(key, load, seconds)

    def block(self, *keys: str) -> None:
        """These are about to change: until `invalidate`, or for some seconds, they are read from the truth."""
        self._drop(keys, block=True)

    def invalidate(self, *keys: str, also: Callable[[Pipeline], object] | None = None) -> None:
        """These have changed, and the change is committed. `also` adds commands to the same round trip; while Redis is
        away they are lost.
        """
        self._drop(keys, block=False, also=also)

    def counts(self) -> dict[str, int]:
        """Hits, misses and errors of this process since it started."""
        with self._lock:
            return {name: self._counts[name] for name in ("hits", "misses", "errors")}

    def _load_once(
        self, key: str, load: Callable[[], bytes | None], seconds: Callable[[bytes], float] | None
    ) -> bytes | None:
        """Load and store, or wait for what another caller stores. What this one loaded is not stored when its lock was
        taken away meanwhile: the truth has changed.
        """
        lock = FlightLock(self._redis, self._lock_key(key), _LOAD_S)
        try:
            entry = self._call(lambda: lock.acquire(lambda: self._look(key)))
        except _RedisAway:
            return load()
        if entry is not None:
            return load() if entry == _BLOCKED else _value(entry)
        try:
            value = load()
        except BaseException:
            lock.release()
            raise
        self._store(key, lock.token, value, seconds)
        return value

    def _store(self, key: str, token: str, value: bytes | None, seconds: Callable[[bytes], float] | None) -> None:
        if value is None:
            entry, lifetime = b"-", self.config.absent_seconds
        else:
            entry, lifetime = b"+" + value, seconds(value) if seconds else self.config.seconds
        milliseconds = max(1, int(lifetime * 1000 * random.uniform(1 - _JITTER, 1 + _JITTER)))
        base = f"gx:cache:{self.config.name}"
        names = (self._key(key), self._lock_key(key), f"{base}:due", f"{base}:size")
        args = (token, entry, milliseconds, key, self.config.max_bytes)
        try:
            self._call(lambda: self._store_script(keys=names, args=args))
        except _RedisAway:
            return  # the value is there for this caller; the next one loads it again

    def _drop(self, keys: tuple[str, ...], *, block: bool, also: Callable[[Pipeline], object] | None = None) -> None:
        with self._lock:
            self._pending.update(keys)
        try:
            self._drop_pending(block=block, also=also)
        except _RedisAway:
            return  # pending: done before this process reads its cache again

    def _drop_pending(self, *, block: bool = False, also: Callable[[Pipeline], object] | None = None) -> None:
        with self._lock:
            keys = list(self._pending)
        if not keys:
            return
        pipe = self._redis.pipeline(transaction=True)
        for key in keys:
            pipe.delete(self._lock_key(key))
            if block:
                pipe.set(self._key(key), _BLOCKED, px=_BLOCK_MS)
            else:
                pipe.delete(self._key(key))
        if also is not None:
            also(pipe)
        self._call(pipe.execute)
        with self._lock:
            self._pending.difference_update(keys)

    def _look(self, key: str) -> bytes | None:
        if self._pending:
            self._drop_pending()
        found: bytes | None = self._call(lambda: self._redis.get(self._key(key)))
        return found

    def _call(self, ask: Callable[[], Answer]) -> Answer:
        if time.monotonic() < self._away_until:
            raise _RedisAway
        try:
            return ask()
        except RedisError as error:
            self._away_until = time.monotonic() + _PAUSE_S
            self._count("errors")
            raise _RedisAway from error

    def _key(self, key: str) -> str:
        return f"gx:cache:{self.config.name}:v:{key}"

    def _lock_key(self, key: str) -> str:
        return f"gx:cache:{self.config.name}:l:{key}"

    def _count(self, what: str) -> None:
        CACHE_CALLS.labels(self.config.name, what).inc()
        with self._lock:
            self._counts[what] += 1


def _value(entry: bytes) -> bytes | None:
    return entry[1:] if entry[:1] == b"+" else None
