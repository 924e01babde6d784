"""What the queues cost: `make bench-queue` (or `python -m workers.bench.queue` with REDIS_URL and DATABASE_URL naming
empty servers).

    claims    one claim and one tick with 100, 10,000 ... --waiting tasks in 1, 16 and 256 batch keys, tickets included
    shares    what each class gets of 1,000 claims while all wait
    rows      the statements of a task's way in a table of --small and of --rows tasks (workers/bench/rows.py)

Times are the border of the fastest tenth of many calls, because the slow ones tell of other work on the machine. The
baseline of each figure is the same call at the smallest size, in the same run. --write FOLDER keeps queue.md and
queue.json. Redis is emptied first.
"""

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import django
from redis import Redis

SMALLEST = 100
KEYS = (1, 16, 256)
CLAIMS = 200
BULK = 5000  # tasks made by one call of the loader

# Runs the product's own enqueue script once for each task of a block; nobody asks for their prospects.
LOADER = """
outlook = function() return {} end
local function enqueue(ARGV)
%s
end
local first, count, keys, ticket = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
for number = first, first + count - 1 do
  local id = string.format('0198aaaa-0000-7000-8000-%%012x', number)
  local size = (256 + 8 * math.floor(number / 4) %% (8 * keys)) .. 'x256'
  local message = string.gsub(ticket, '%%x+%%-%%x+%%-%%x+%%-%%x+%%-%%x+', id)
  enqueue({id, tostring(number %% 4), 'mini@1:' .. size, tostring(number %% 50), '1', tostring(1000 + number), '0',
    'mini@1', '1', message})
end
return count
"""


class Bench:
    """Measurements over one Redis."""

    def __init__(self, url: str) -> None:
        from generation import tickets
        from generation.ticket_messages import ticket_message
        from workers.buffer import Buffer, BufferConfig, connect

        self.redis: Redis = connect(url, timeout=300)
        layout, enqueue = ((tickets.LUA / name).read_text() for name in ("layout.lua", "enqueue.lua"))
        self.load = self.redis.register_script(layout + LOADER % enqueue)
        self.ticket = ticket_message(UUID(int=0x0198AAAA_0000_7000_8000_000000000000), 2)
        self.buffer = Buffer(self.redis, BufferConfig(worker="bench-1", own_queue="dq.bench", window_ms=0))

    def fill(self, count: int, keys: int) -> None:
        """Empties Redis and enqueues tasks of four classes and fifty users."""
        self.redis.flushall()
        for first in range(0, count, BULK):
            self.load(args=[first, min(BULK, count - first), keys, self.ticket])
        waiting = sum(int(n) for n in self.redis.hvals("gq:n"))
        assert waiting == count, waiting

    def claims(self, most: int) -> list[dict[str, Any]]:
        """Seconds of the calls at each size; `ratio` is a claim of one beside the same at the smallest size."""
        sizes = [size for size in (SMALLEST, 10_000, 1_000_000, 10_000_000) if size < most] + [most]
        found: list[dict[str, Any]] = []
        for keys in KEYS:
            first: tuple[float, float] | None = None
            for count in sizes:
                self.fill(count, keys)
                rounds = min(CLAIMS, count // 12)
                one, eight = self._timed(1, rounds), self._timed(8, rounds)  # of a task taken
                first = first or (one, eight)
                held = self.buffer.claim(8).tasks
                tick = fast([seconds(partial(self.buffer.tick, held)) for _ in range(100)])
                ratio = max(one / first[0], eight / first[1])
                found.append({"waiting": count, "keys": keys, "one": one, "eight": eight, "tick": tick, "ratio": ratio})
                print(claims_row(found[-1]), flush=True)
        return found

    def _timed(self, slots: int, rounds: int) -> float:
        """Seconds of a claim for each task that it took; what was claimed is settled outside of the measurement."""
        times = []
        for _ in range(rounds):
            begun = time.perf_counter()
            claimed = self.buffer.claim(slots, wait_for_mates=False).tasks
            times.append((time.perf_counter() - begun) / max(1, len(claimed)))
            for task in claimed:
                self.buffer.settle(task, "ended")
        return fast(times)

    def shares(self) -> dict[str, float]:
        """The classes' parts of 1,000 claims while all are full."""
        self.fill(8000, keys=16)
        served = Counter(task.priority for _ in range(1000) for task in self.buffer.claim(1).tasks)
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


def report(result: dict[str, Any]) -> str:
    """The page docs/benchmarks/queue.md."""
    result = {"claims": [], "shares": {}} | result
    lines = ["# Queues, measured", "", "By `make bench-queue`, on two shared cores: compare rows, not machines.", ""]
    lines += [CLAIMS_HEAD, *map(claims_row, result["claims"])]
    worst = max((one["ratio"] for one in result["claims"]), default=0.0)
    lines += ["", f"Worst ratio {worst:.2f}; goal 1.5. Every waiting task has its ticket in its Celery queue.", ""]
    lines += ["| class | share wanted | share of 1,000 claims |", "|---|---|---|"]
    wanted = dict(zip(("P0", "P1", "P2", "P3"), (0.5, 0.3, 0.1, 0.1), strict=True))
    lines += [f"| {name} | {wanted[name]:.1%} | {share:.1%} |" for name, share in result["shares"].items()]
    if result.get("rows"):
        lines += ["", *rows_lines(result["rows"])]
    return "\n".join(lines) + "\n"


def rows_lines(rows: dict[str, Any]) -> list[str]:
    small, large = rows["sizes"]
    lines = [f"| statement | {small:,} rows | {large:,} rows | ratio |", "|---|---|---|---|"]
    for name, (before, after) in rows["times"].items():
        lines.append(f"| {name} | {before * 1e3:.2f} ms | {after * 1e3:.2f} ms | {after / before:.2f} |")
    return [*lines, "", "Goal: 1.2. The rows lie in daily partitions over 90 days; the last days have the open ones."]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workers.bench.queue")
    parser.add_argument("--waiting", type=int, default=10_000, help="largest queue; a million takes 2 GB; 0: none")
    parser.add_argument("--small", type=int, default=10_000, help="rows of the small table")
    parser.add_argument("--rows", type=int, default=0, help="rows of the large table; ten million take 8 GB; 0: none")
    parser.add_argument("--write", default="", help="folder of queue.md and queue.json, which keep what is not run")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imagegenx_site.settings")
    django.setup()
    kept = Path(options.write, "queue.json")
    result: dict[str, Any] = json.loads(kept.read_text()) if options.write and kept.exists() else {}
    if options.waiting:
        bench = Bench(os.environ["REDIS_URL"])
        print(CLAIMS_HEAD)
        result |= {"claims": bench.claims(options.waiting), "shares": bench.shares()}
    if options.rows:
        from workers.bench import rows

        result["rows"] = rows.measure(options.small, options.rows)
    print("\n" + report(result))
    if options.write:
        kept.write_text(json.dumps(result, indent=1) + "\n")
        Path(options.write, "queue.md").write_text(report(result))


if __name__ == "__main__":
    main()
