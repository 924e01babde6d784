"""Which tasks a GPU worker claims, and when: in the order of the queues. Their rows are won in a side thread.

The warm key is the batch key that the engine runs now.

    Nothing runs.            Tasks of any key are claimed in the order of the queues. Tasks whose model only other
                             workers have in memory are left to those at first.
    Something runs.          More tasks of the warm key are claimed while they are next in the order. When another key
                             is next, nothing is claimed until the engine is empty.
    P0 waits, it is next.    Tasks of P0 are claimed at the next step boundary: of any key, or only of the warm key
                             while paused work fills its memory.
    A task runs alone.       It was claimed when the engine was empty, and nothing joins it.

There is one claim at a time: the next one waits until the side thread has finished with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for

from generation.queue.values import BatchKey, Release
from generation.queue.worker import Claimed, Tick, WorkerQueue
from workers.gpu import task_claims
from workers.gpu.interfaces import Room
from workers.gpu.running_tasks import RunningTask

logger = logging.getLogger(__name__)
URGENT, LEAST_URGENT = 0, 3
FLOW_S = 0.1  # after work within so many seconds more of a batch key is likely to come; else it may join at any step
URGENT_PATIENCE_S = 0.03  # a running batch waits so long for the rows of P0, which else would begin a step later
DATABASE_PAUSE_S = 1.0  # after rows could not be claimed


class Intake:
    """Used by the engine thread only. `claim` raises redis.RedisError. `wake` ends its sleep when rows are won."""

    def __init__(
        self, queue: WorkerQueue, threads: ThreadPoolExecutor, wake: Callable[[], None] = lambda: None
    ) -> None:
        self.queue = queue
        self._threads, self._wake = threads, wake
        self._claiming: dict[Future[task_claims.ClaimedRows], tuple[Claimed, ...]] = {}
        self._not_before = 0.0
        self._more_likely_until = 0.0
        self._waiting = 1  # tasks in the queues at the last tick; unknown at first
        self._p0_waits = self._p0_claimed = False

    @property
    def busy(self) -> bool:
        """Rows are being won."""
        return bool(self._claiming)

    @property
    def tasks_wait(self) -> bool:
        """At the last tick."""
        return self._waiting > 0

    def claimed_ids(self) -> set[str]:
        """Tasks whose rows are being won."""
        return {claim.task_id for claims in self._claiming.values() for claim in claims}

    def note_tick(self, tick: Tick) -> None:
        """What waits in the queues now."""
        self._waiting, self._p0_waits = tick.waiting, tick.p0_waits

    def note_step(self) -> None:
        """A step was done: for a moment more of a batch key is likely, so that a task waits its window for it."""
        self._more_likely_until = time.monotonic() + FLOW_S

    def patience(self, seconds: float) -> float:
        """How long the engine thread may sleep at most: until the next claim may bring something."""
        wait = self._not_before - time.monotonic()
        return min(seconds, wait) if wait > 0 else seconds

    def look_again(self) -> None:
        """Claim at the next call even if nothing was known to wait."""
        self._waiting = max(1, self._waiting)

    def claim(self, engine: Room, running: Mapping[str, RunningTask], loaded: Collection[str] | None = None) -> None:
        """Claims what may come now and sends it to the side thread. `loaded`: models in memory; None: all."""
        now = time.monotonic()
        alone = any(task.claimed.alone for task in running.values())
        if now < self._not_before or self._waiting == 0 or alone or self._claiming:
            return
        warm = engine.warm_key
        only_class = URGENT if warm and self._p0_waits else None
        priority = URGENT if only_class == URGENT else LEAST_URGENT
        keys = {task.claimed.batch_key for task in running.values()}
        closed = [key for key in keys if _room(engine, running, key, priority) <= 0]
        if warm in closed and only_class is None:
            return
        claim = self.queue.claim(
            1,
            warm_key=warm,
            only_key=warm if engine.paused_memory_full else None,
            only_class=only_class,
            closed=closed,
            join=bool(running),
            wait_for_batch=now < self._more_likely_until,
            loaded=loaded,
        )
        self._not_before = now + claim.wait
        if claim.tasks:
            claims = claim.tasks + self._claim_more(engine, running, claim.tasks[0], only_class)
            rows = self._threads.submit(task_claims.claim_rows, claims, self.queue.config.worker)
            rows.add_done_callback(lambda _: self._wake())
            self._claiming[rows] = claims
            self._p0_claimed = only_class == URGENT
        elif not claim.wait:
            self._waiting, self._p0_waits = 0, False  # until the next tick says otherwise

    def _claim_more(
        self, engine: Room, running: Mapping[str, RunningTask], first: Claimed, only_class: int | None
    ) -> tuple[Claimed, ...]:
        """As many more of the first one's key as there is room for."""
        key = first.batch_key
        room = 0 if first.alone else _room(engine, running, key, first.priority) - 1
        if room < 1:
            return ()
        return self.queue.claim(room, only_key=key, only_class=only_class, wait_for_batch=False).tasks

    def take_claimed(self, *, wait: bool = False) -> task_claims.ClaimedRows:
        """What the side thread has finished; with `wait` everything that it was given."""
        if self._p0_claimed:
            wait_for(self._claiming, URGENT_PATIENCE_S)
            self._p0_claimed = False
        found = task_claims.ClaimedRows()
        for future in [future for future in self._claiming if wait or future.done()]:
            claims, error = self._claiming.pop(future), future.exception()
            if error is not None:
                logger.error("rows could not be claimed, the tasks are requeued: %s", error)
                found.released += [(claim, Release.WAITING) for claim in claims]
                self._not_before = time.monotonic() + DATABASE_PAUSE_S
                continue
            found.running += future.result().running
            found.released += future.result().released
        return found


def _room(engine: Room, running: Mapping[str, RunningTask], key: BatchKey, priority: int) -> int:
    """Samples of that key that would be admitted now, less those that are still to be."""
    coming = sum(len(task.to_admit) for task in running.values() if task.claimed.batch_key == key)
    return engine.room(key.model, key.width, key.height, priority) - coming
