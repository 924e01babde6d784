"""The watchdog: a small process beside each GPU worker that keeps its lease and, when it dies or hangs, requeues its
work at once.

It is a process because a thread cannot do it: a stalled interpreter (a long allocation, a model load) would stop the
heartbeat and have its tasks run twice for nothing. It imports no torch and no Django.

The worker holds the writing end of a pipe (the watchdog's standard input). The first line is the configuration as
JSON, so that no password shows in the process list; afterwards single bytes:

    s   a step was finished, or the engine looked for work (idle): alive; the first one: it is a member of its pool
    l   a model is loading: the longer hang limit holds until the next `s`
    q   the worker holds nothing any more: release the lease and end

End of file means that the worker is dead: its tasks are requeued at once. No byte within the hang limit
means that a step hangs: the worker is killed, which leads to end of file.
"""

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from redis.exceptions import RedisError

from generation.queue.worker import WorkerQueue, WorkerQueueConfig
from imagegenx_site import log_lines, redis_clients
from imagegenx_site.config import GpuConfig, QueueConfig
from imagegenx_site.pools import Pools

logger = logging.getLogger("workers.gpu.watchdog")


@dataclass(frozen=True)
class WatchdogConfig:
    """Times in seconds."""

    redis_url: str
    worker: str
    pid: int
    pool: str
    beat: float = 0.25
    lease: float = QueueConfig.lease_ms / 1000
    hang: float = GpuConfig.hang_s
    loading_hang: float = 180.0


class Watchdog:
    """Runs in the child process until the worker leaves or dies."""

    def __init__(self, config: WatchdogConfig, pipe: int) -> None:
        self.config = config
        self.pipe = pipe
        redis = redis_clients.connect(config.redis_url, timeout=config.lease)
        own = WorkerQueueConfig(worker=config.worker, own_queue="", lease_ms=int(config.lease * 1000))
        self.queue = WorkerQueue(redis, own)
        self.pools = Pools(redis, {})
        self.limit = config.loading_hang  # until the first step the worker starts up
        self.last_sign = time.monotonic()
        self.hung = False
        self.works = False  # it has loaded its models
        self.has_arrived = False  # in its pool

    def run(self) -> None:
        next_beat = 0.0
        while True:
            now = time.monotonic()
            if now >= next_beat:
                self._beat()
                next_beat = now + self.config.beat
            readable, _, _ = select.select([self.pipe], [], [], max(0.0, next_beat - time.monotonic()))
            signs = os.read(self.pipe, 4096) if readable else None
            if signs == b"":
                return self._requeue_tasks("a step hung" if self.hung else "the worker process died")
            if signs and b"q" in signs:
                return self._end_lease()
            if signs:
                self.last_sign = time.monotonic()
                if not self.works and b"s" in signs:
                    self.works, next_beat = True, 0.0
                self.limit = self.config.loading_hang if signs.endswith(b"l") else self.config.hang
            elif time.monotonic() - self.last_sign > self.limit:
                self._kill()

    def _beat(self) -> None:
        try:
            if self.queue.beat():  # Redis was emptied, or others took it for dead
                self.has_arrived = False
            self._arrive()
        except RedisError as error:
            logger.warning("lease of %s not renewed: %s", self.config.worker, error)

    def _arrive(self) -> None:
        """It is a member of its pool from its first step on, and again after Redis has forgotten it."""
        if self.works and not self.has_arrived:
            self.pools.arrive(self.config.worker, self.config.pool)
            self.has_arrived = True

    def _kill(self) -> None:
        """A hung CUDA call answers no signal but this one. The end of file follows."""
        logger.error("%s gave no sign for %.0f s: killed", self.config.worker, self.limit)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.config.pid, signal.SIGKILL)
        self.hung = True
        self.last_sign = time.monotonic()

    def _requeue_tasks(self, cause: str) -> None:
        """Keeps trying while Redis is away. If Redis restarts empty, the lease is gone and no other worker can find
        these tasks.
        """
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.config.pid, signal.SIGKILL)  # it closed the pipe without a word: no half-dead worker goes on
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            try:
                found = self.queue.requeue_dead(self.config.worker, cause, alone=self.hung)
            except RedisError:
                time.sleep(self.config.beat)
                continue
            logger.error("%s: %d tasks requeued, %d given up", cause, len(found.requeued), len(found.given_up))
            return

    def _end_lease(self) -> None:
        with contextlib.suppress(RedisError):
            self.queue.leave()
            self.pools.leave(self.config.worker)


class WatchdogHandle:
    """The worker's end: starts the child, feeds it signs, starts another when it died. One thread uses it."""

    def __init__(self, config: WatchdogConfig) -> None:
        self.config = config
        self._last = 0.0
        self._start()

    def alive(self) -> None:
        """Call it at every step; a byte is sent at most every 50 ms."""
        self._sign(b"s")

    def loading(self) -> None:
        """Call it before a model is loaded."""
        self._last = 0.0
        self._sign(b"l")

    def leave(self) -> None:
        """The worker holds nothing any more."""
        self._last = 0.0
        self._sign(b"q")
        with contextlib.suppress(subprocess.TimeoutExpired, BrokenPipeError):
            self.child.communicate(timeout=self.config.lease + 1)

    def _sign(self, byte: bytes) -> None:
        now = time.monotonic()
        if now - self._last < 0.05:
            return
        self._last = now
        if self.child.poll() is not None:
            logger.warning("watchdog of %s died (%s), another starts", self.config.worker, self.child.returncode)
            self._start()
        assert self.child.stdin is not None
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # full: it lags; broken: replaced by the next call
            self.child.stdin.write(byte)

    def _start(self) -> None:
        """A session of its own: a Ctrl-C for the worker must not reach it, it outlives the worker on purpose."""
        root = Path(__file__).resolve().parents[2]
        command = [sys.executable, "-m", "workers.gpu.watchdog"]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, bufsize=0, cwd=root)
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps(asdict(self.config)).encode() + b"\n")
        os.set_blocking(self.child.stdin.fileno(), False)


def main() -> None:
    log_lines.configure()
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    line = b""
    while not line.endswith(b"\n"):
        if not (byte := os.read(0, 1)):
            return
        line += byte
    Watchdog(WatchdogConfig(**json.loads(line)), pipe=0).run()


if __name__ == "__main__":
    main()
