"""What the queues cost: `make bench-queue` (or `python -m workers.bench.queue` with REDIS_URL naming an empty Redis).

    claims    one claim and one tick with 100, 10,000 and (--full) 1,000,000 waiting tasks in 1, 16 and 256 batch keys
    shares    what each class gets of 1,000 claims while all wait

Times are the fastest tenth of many calls, because the slow ones tell of other work on the machine. The table is
printed; --write FILE keeps it. Redis is emptied first.
"""

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from redis import Redis

from generation import tickets
from generation.lua import load_script
from generation.uuid7 import uuid7
from workers.buffer import Buffer, BufferConfig, connect

CLAIMS = 300


class Bench:
    """Measurements over one Redis."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis: Redis = connect(url, timeout=300)
        self.enqueue = load_script(self.redis, tickets.LUA / "enqueue.lua")
        self.buffer = Buffer(self.redis, BufferConfig(worker="bench-1", own_queue="dq.bench"))
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        print(line, flush=True)
        self.lines.append(line)

    def fill(self, count: int, keys: int, *, classes: int = 4, users: int = 50) -> float:
        """Empties Redis and enqueues; seconds for one enqueue, sent in pipelines."""
        self.redis.flushall()
        self.redis.script_load(self.enqueue.script)
        begun = time.perf_counter()
        for first in range(0, count, 1000):
            with self.redis.pipeline(transaction=False) as pipe:
                for number in range(first, min(first + 1000, count)):
                    key = f"mini@1:{256 + 8 * (number % keys)}x256"
                    args = [uuid7(), number % classes, key, number % users, 1.0, 1000 + number, 0, "mini@1", 1]
                    pipe.evalsha(self.enqueue.sha, 0, *map(str, args))
                pipe.execute()
        return (time.perf_counter() - begun) / count

    def claims(self, full: bool) -> None:
        self.say("| waiting | batch keys | enqueue, in pipelines | claim of 1 | claim of 8 | tick of 8 | claims/s |")
        self.say("|---|---|---|---|---|---|---|")
        for count in (100, 10_000, 1_000_000) if full else (100, 10_000):
            for keys in (1, 16, 256):
                put = self.fill(count, min(keys, count))
                rounds = min(CLAIMS, count // 12)
                one = self._timed(1, rounds)
                eight = self._timed(8, rounds)
                held = self.buffer.claim(8).tasks
                tick = fast([self._seconds(partial(self.buffer.tick, held)) for _ in range(100)])
                row = f"| {count:,} | {keys} | {put * 1e6:.0f} us | {one * 1e6:.0f} us | {eight * 1e6:.0f} us "
                self.say(row + f"| {tick * 1e6:.0f} us | {1 / one:,.0f} |")

    def _timed(self, slots: int, rounds: int) -> float:
        """Seconds of a claim; what was claimed is settled outside of the measurement."""
        times = []
        for _ in range(rounds):
            begun = time.perf_counter()
            claimed = self.buffer.claim(slots, wait_for_mates=False).tasks
            times.append(time.perf_counter() - begun)
            for task in claimed:
                self.buffer.settle(task, "ended")
        return fast(times)

    def _seconds(self, call: Callable[[], object]) -> float:
        begun = time.perf_counter()
        call()
        return time.perf_counter() - begun

    def shares(self) -> None:
        self.fill(8000, keys=16)
        served = Counter(task.priority for _ in range(1000) for task in self.buffer.claim(1).tasks)
        self.say("\n| class | share wanted | share of 1,000 claims |\n|---|---|---|")
        for class_, share in enumerate(self.buffer.config.shares):
            self.say(f"| P{class_} | {share / 10:.1%} | {served[class_] / 1000:.1%} |")


def fast(times: list[float]) -> float:
    """The border of the fastest tenth."""
    return sorted(times)[len(times) // 10]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workers.bench.queue")
    parser.add_argument("--full", action="store_true", help="with a million waiting tasks (about 1 GB of Redis memory)")
    parser.add_argument("--write", default="")
    options = parser.parse_args()
    bench = Bench(os.environ["REDIS_URL"])
    bench.claims(options.full)
    bench.shares()
    if options.write:
        text = "# Queues, measured\n\nMade by `make bench-queue` on two shared cores: compare rows.\n\n"
        Path(options.write).write_text(text + "\n".join(bench.lines) + "\n")


if __name__ == "__main__":
    main()
