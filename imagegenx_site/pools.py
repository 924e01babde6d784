"""Pools of processes that do the same work: which members live, and how many are missing.

A member arrives when it can work, leaves when it is stopped in order, and is lost when its lease ran out (that of a GPU
worker: gq:lease; of all others: proc:lease). The place of a lost one stays open until a member arrives, whatever its
name: a Deployment's next pod, or the same process again. An arrival after the last sign of life takes the place too,
because a restart may be quicker than a lease.

    wanted = living + open places, or what WORKERS_WANTED says

The keys: imagegenx_site/redis_clients.py. Every function raises redis.RedisError when Redis is out of reach.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from redis import Redis

from imagegenx_site.redis_clients import load_script

_NOW: Final = """
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local member = ARGV[1]
"""
_ARRIVE: Final = """
local pool = ARGV[2]
if redis.call('HSETNX', 'proc:pool', member, pool) == 0 then return 0 end
redis.call('SADD', 'proc:pools', pool)
if redis.call('LPOP', 'proc:lost:' .. pool) then return 1 end
redis.call('ZADD', 'proc:new:' .. pool, now, member)
redis.call('ZREMRANGEBYSCORE', 'proc:new:' .. pool, '-inf', now - 3600000)
return 1
"""
_RENEW: Final = "return redis.call('ZADD', 'proc:lease', now + tonumber(ARGV[2]), member)"
_FORGET: Final = """
redis.call('ZREM', 'proc:lease', member)
local pool = redis.call('HGET', 'proc:pool', member)
if not pool then return false end
redis.call('HDEL', 'proc:pool', member)
redis.call('ZREM', 'proc:new:' .. pool, member)
"""
_LOSE: Final = """
local seen = ARGV[2] == '' and now or tonumber(ARGV[2])
local successor = redis.call('ZRANGEBYSCORE', 'proc:new:' .. pool, '(' .. seen, '+inf', 'LIMIT', 0, 1)[1]
if successor then
  redis.call('ZREM', 'proc:new:' .. pool, successor)
  return {pool, 1}
end
redis.call('RPUSH', 'proc:lost:' .. pool, member)
return {pool, 0}
"""
_EXPIRED: Final = "return redis.call('ZRANGEBYSCORE', 'proc:lease', '-inf', now, 'WITHSCORES')"
_STATE: Final = """
local living = {}
for _, leases in ipairs({'gq:lease', 'proc:lease'}) do
  for _, found in ipairs(redis.call('ZRANGEBYSCORE', leases, '(' .. now, '+inf')) do living[found] = true end
end
local count, members = {}, redis.call('HGETALL', 'proc:pool')
for i = 1, #members, 2 do
  local pool = members[i + 1]
  count[pool] = count[pool] or {0, 0}
  count[pool][living[members[i]] and 1 or 2] = count[pool][living[members[i]] and 1 or 2] + 1
end
local answer = {}
for _, pool in ipairs(redis.call('SMEMBERS', 'proc:pools')) do
  local of = count[pool] or {0, 0}
  answer[#answer + 1] = {pool, of[1], of[1] + of[2] + redis.call('LLEN', 'proc:lost:' .. pool)}
end
return answer
"""


@dataclass(frozen=True)
class Loss:
    """`replaced`: a member of the pool has arrived since the lost one's last sign of life."""

    pool: str
    replaced: bool


@dataclass(frozen=True)
class PoolState:
    """How many members live, and how many there should be."""

    name: str
    live: int
    wanted: int

    @property
    def whole(self) -> bool:
        return self.live >= self.wanted


class Pools:
    """The table of all pools. `redis`: a client that decodes to text. `wanted`: WORKERS_WANTED."""

    def __init__(self, redis: "Redis[str]", wanted: Mapping[str, int]) -> None:
        self._redis = redis
        self._wanted = wanted

    def arrive(self, member: str, pool: str) -> None:
        """`member` can work. Calling it again changes nothing."""
        self._run(_ARRIVE, member, pool)

    def renew(self, member: str, lease_s: float) -> bool:
        """A longer lease, of a process that is no GPU worker; whether it had none."""
        return bool(self._run(_RENEW, member, int(lease_s * 1000)))

    def leave(self, member: str) -> None:
        """`member` ends in order, and its place with it."""
        self._run(_FORGET, member)

    def lose(self, member: str, seen_ms: int | None = None) -> Loss | None:
        """`member` is dead since `seen_ms` (its last sign of life; None: now). None for one that is not known."""
        answer = self._run(_FORGET + _LOSE, member, "" if seen_ms is None else seen_ms)
        return Loss(answer[0], bool(answer[1])) if answer else None

    def expired(self) -> dict[str, int]:
        """Members of proc:lease whose lease ran out -> when, in ms."""
        answer = self._run(_EXPIRED, "")
        return {member: int(until) for member, until in zip(answer[::2], answer[1::2], strict=True)}

    def state(self) -> list[PoolState]:
        """Every pool that has or misses members, by name."""
        found = {str(row[0]): (int(row[1]), int(row[2])) for row in self._run(_STATE, "")}
        pools = []
        for name in sorted(found.keys() | self._wanted.keys()):
            live, wanted = found.get(name, (0, 0))
            wanted = self._wanted.get(name, wanted)
            if live or wanted:
                pools.append(PoolState(name, live, wanted))
        return pools

    def close_places(self, pool: str) -> None:
        """An operator says that the lost members will not come back."""
        self._redis.delete(f"proc:lost:{pool}")

    def _run(self, script: str, *args: object) -> list[str]:
        answer: list[str] = load_script(self._redis, _NOW, script)(args=[str(arg) for arg in args])
        return answer
