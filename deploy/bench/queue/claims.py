"""One claim and one tick with 100 to a million tasks waiting in 1, 16 and 256 batch keys, tickets included.

Times are the border of the fastest tenth of many calls, because the slow ones tell of other work on the machine. The
baseline of each figure is the same call at the smallest size, measured just before it and just after it: a shared
machine is up to twice as slow some minutes later. Redis is emptied first.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import UUID

from redis import Redis

from generation.queue import lua
from generation.queue.celery_wire import ticket_message
from generation.queue.values import Release
from generation.queue.worker import WorkerQueue, WorkerQueueConfig
from imagegenx_site import redis_clients

GOAL = 1.5
SMALLEST = 100
KEYS = (1, 16, 256)
CLAIMS = 200
BULK = 5000  # tasks made by one call of the loader

# Runs the product's own enqueue script once for each task of a block; nobody asks for their queue positions.
LOADER = """
queue_position = function() return {} end
local function enqueue(ARGV)
%s
end
local first, count, keys, ticket = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
for number = first, first + count - 1 do
  local id = string.format('0198aaaa-0000-7000-8000-%%012x', number)
  local size = (256 + 8 * math.floor(number / 4) %% (8 * keys)) .. 'x256'
  local message = string.gsub(ticket, '%%x+%%-%%x+%%-%%x+%%-%%x+%%-%%x+', id)
  local task = {id = id, class = number %% 4, key = 'mini@1:' .. size, user = number %% 50, model = 'mini@1'}
  task.weight, task.samples, task.created_ms, task.expires_ms = 1, 1, 1000 + number, 0
  enqueue({cjson.encode(task), message})
end
return count
"""


class Bench:
    """Measurements over one Redis."""

    def __init__(self, url: str) -> None:
        self.redis: Redis = redis_clients.connect(url, timeout=300)
        self.load = redis_clients.load_script(self.redis, lua.source("layout"), LOADER % lua.source("enqueue"))
        self.ticket = ticket_message(UUID(int=0x0198AAAA_0000_7000_8000_000000000000), 2)
        self.queue = WorkerQueue(self.redis, WorkerQueueConfig(worker="bench-1", own_queue="dq.bench", window_ms=0))

    def fill(self, count: int, keys: int) -> None:
        """Empties Redis and enqueues tasks of four classes and fifty users."""
        self.redis.flushall()
        for first in range(0, count, BULK):
            self.load(args=[first, min(BULK, count - first), keys, self.ticket])
        waiting = sum(int(n) for n in self.redis.hvals("gq:n"))
        assert waiting == count, waiting

    def claims(self, most: int) -> Iterator[dict[str, Any]]:
        """Seconds of the calls at each size; `ratio` is the worse claim beside the same at the smallest size."""
        sizes = [size for size in (10_000, 1_000_000, 10_000_000) if size < most] + [most]
        for keys in KEYS:
            before = self._timed(SMALLEST, keys)
            yield self._row(SMALLEST, keys, before, 1.0)
            for count in sizes:
                times = self._timed(count, keys)
                after = self._timed(SMALLEST, keys)
                ratio = max(2 * times[call] / (before[call] + after[call]) for call in (0, 1))
                yield self._row(count, keys, times, ratio)
                before = after

    def _row(self, count: int, keys: int, times: tuple[float, float, float], ratio: float) -> dict[str, Any]:
        return {"waiting": count, "keys": keys, "one": times[0], "eight": times[1], "tick": times[2], "ratio": ratio}

    def _timed(self, count: int, keys: int) -> tuple[float, float, float]:
        """Seconds of a claim of one, of a claim of eight for each task that it took, and of a tick of eight."""
        ones: list[float] = []
        eights: list[float] = []
        ticks: list[float] = []
        while len(ones) < CLAIMS:  # a small queue is filled anew before the claims empty it
            self.fill(count, keys)
            rounds = min(CLAIMS, count // 12)
            ones += self._claims(1, rounds)
            eights += self._claims(8, rounds)
            held = self.queue.claim(8).tasks
            ticks += [seconds(partial(self.queue.tick, held)) for _ in range(rounds)]
        return fast(ones), fast(eights), fast(ticks)

    def _claims(self, slots: int, rounds: int) -> list[float]:
        """Seconds of each claim for a task that it took; what was claimed is settled outside of the measurement."""
        times = []
        for _ in range(rounds):
            begun = time.perf_counter()
            claimed = self.queue.claim(slots, wait_for_batch=False).tasks
            times.append((time.perf_counter() - begun) / max(1, len(claimed)))
            for task in claimed:
                self.queue.settle(task, Release.ENDED)
        return times

    def shares(self) -> dict[str, float]:
        """The classes' parts of 1,000 claims while all are full."""
        self.fill(8000, keys=16)
        served = Counter(task.priority for _ in range(1000) for task in self.queue.claim(1).tasks)
        return {f"P{class_}": served[class_] / 1000 for class_ in range(4)}


def seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def fast(times: list[float]) -> float:
    """The border of the fastest tenth."""
    return sorted(times)[len(times) // 10]


CLAIMS_HEAD = """\
| waiting | batch keys | claim of 1 | claim of 8, a task | tick of 8 | claims/s | worst beside the smallest size |
|---|---|---|---|---|---|---|"""


def claims_row(one: dict[str, Any]) -> str:
    times = " | ".join(f"{one[name] * 1e6:.0f} us" for name in ("one", "eight", "tick"))
    return f"| {one['waiting']:,} | {one['keys']} | {times} | {1 / one['one']:,.0f} | {one['ratio']:.2f} |"


def lines(rows: list[dict[str, Any]], shares: dict[str, float]) -> list[str]:
    """The two tables of the page."""
    worst = max((one["ratio"] for one in rows), default=0.0)
    verdict = f"Worst ratio {worst:.2f}; goal {GOAL}. Every waiting task has its ticket in its Celery queue."
    wanted = dict(zip(("P0", "P1", "P2", "P3"), (0.5, 0.3, 0.1, 0.1), strict=True))
    parts = [f"| {name} | {wanted[name]:.1%} | {share:.1%} |" for name, share in shares.items()]
    return [
        CLAIMS_HEAD, *map(claims_row, rows), "", verdict, "",
        "| class | share wanted | share of 1,000 claims |", "|---|---|---|", *parts,
    ]  # fmt: skip
