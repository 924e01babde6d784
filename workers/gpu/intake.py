"""How tasks come on board of a GPU worker: claimed in the order of the queues, their rows won in a side thread.

    nobody on board         any key, as the queues' order says; what others have in memory is left to them for a moment
    somebody on board       more of the warm key while the order agrees; else the board empties, the next key follows
    P0 waits, its turn      P0 of any key, at the next step boundary; once paused work fills its memory, of the warm key
    one who must run alone  comes when the board is empty, and nobody joins it

Until the side thread is done with one claim there is no other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from typing import Protocol

from generation.queue.buffer import Buffer, Claimed, Tick
from generation.queue.values import BatchKey
from workers.gpu import rows
from workers.gpu.held_tasks import HeldTask, Settlement

logger = logging.getLogger(__name__)
URGENT, LEAST_URGENT = 0, 3
FLOW_S = 0.1  # work within the last so many seconds makes mates of a lone task likely; else they may join at any step
URGENT_PATIENCE_S = 0.03  # a running batch waits so long for the rows of P0, which else would begin a step later
DATABASE_PAUSE_S = 1.0  # after rows could not be claimed


class Roomy(Protocol):
    """What the intake asks of an engine."""

    warm_key: BatchKey | None

    @property
    def full_of_paused(self) -> bool: ...
    def room(self, model: str, width: int, height: int, priority: int) -> int: ...


@dataclass
class Boarding:
    """What came back from the side thread: tasks to take on board, and entries to settle in the buffer."""

    held: list[HeldTask] = field(default_factory=list)
    settled: list[tuple[Claimed, Settlement]] = field(default_factory=list)


class Intake:
    """Used by the engine thread only. Methods that talk to Redis raise redis.RedisError."""

    def __init__(self, buffer: Buffer, side_threads: ThreadPoolExecutor) -> None:
        self.buffer = buffer
        self._threads = side_threads
        self._boarding: dict[Future[rows.Boarded], tuple[Claimed, ...]] = {}
        self._not_before = 0.0
        self._flow_until = 0.0
        self._waiting = 1  # tasks in the queues at the last tick; unknown at first
        self._p0_waits = self._p0_boards = False

    @property
    def busy(self) -> bool:
        """Claims are in the side thread."""
        return bool(self._boarding)

    def ids(self) -> set[str]:
        """Tasks that are claimed and not on board yet."""
        return {claim.task_id for claims in self._boarding.values() for claim in claims}

    def heard(self, tick: Tick) -> None:
        """The latest word about the queues."""
        self._waiting, self._p0_waits = tick.waiting, tick.p0_waits

    def worked(self) -> None:
        """A step was done: from now on a lone task waits its window for mates, because mates are likely."""
        self._flow_until = time.monotonic() + FLOW_S

    @property
    def crowded(self) -> bool:
        """Tasks waited at the last tick."""
        return self._waiting > 0

    def hope(self) -> None:
        """Nothing was known to wait; look again all the same."""
        self._waiting = max(1, self._waiting)

    def claim(self, engine: Roomy, held: Mapping[str, HeldTask], loaded: Collection[str] | None = None) -> None:
        """Claims what may come on board now, and sends it to the side thread. `loaded`: models in memory; None: all."""
        now = time.monotonic()
        alone = any(task.claimed.alone for task in held.values())
        if now < self._not_before or self._waiting == 0 or alone or self._boarding:
            return
        warm = engine.warm_key
        only_class = URGENT if warm and self._p0_waits else None
        priority = URGENT if only_class == URGENT else LEAST_URGENT
        keys = {task.claimed.batch_key for task in held.values()}
        closed = [key for key in keys if _room(engine, held, key, priority) <= 0]
        if warm in closed and only_class is None:
            return
        claim = self.buffer.claim(
            1,
            warm_key=warm,
            only_key=warm if engine.full_of_paused else None,
            only_class=only_class,
            closed=closed,
            join=bool(held),
            wait_for_mates=now < self._flow_until,
            loaded=loaded,
        )
        self._not_before = now + claim.wait
        if claim.tasks:
            self._board(claim.tasks + self._mates(engine, held, claim.tasks[0], only_class))
            self._p0_boards = only_class == URGENT
        elif not claim.wait:
            self._waiting, self._p0_waits = 0, False  # until the next tick says otherwise

    def _mates(
        self, engine: Roomy, held: Mapping[str, HeldTask], first: Claimed, only_class: int | None
    ) -> tuple[Claimed, ...]:
        """As many more of the first one's key as there is room for."""
        room = 0 if first.alone else _room(engine, held, first.batch_key, first.priority) - 1
        if room < 1:
            return ()
        only_key = first.batch_key
        return self.buffer.claim(room, only_key=only_key, only_class=only_class, wait_for_mates=False).tasks

    def _board(self, claims: tuple[Claimed, ...]) -> None:
        self._boarding[self._threads.submit(rows.board, claims, self.buffer.config.worker)] = claims

    def boarded(self, *, wait: bool = False) -> Boarding:
        """What the side thread has finished; with `wait` everything that it was given."""
        boarding = Boarding()
        if self._p0_boards:
            wait_for(self._boarding, URGENT_PATIENCE_S)
            self._p0_boards = False
        for future in [future for future in self._boarding if wait or future.done()]:
            claims = self._boarding.pop(future)
            error = future.exception()
            if error is not None:
                logger.error("rows could not be claimed, the tasks go back: %s", error)
                boarding.settled += [(claim, Settlement("waiting")) for claim in claims]
                self._not_before = time.monotonic() + DATABASE_PAUSE_S
                continue
            result = future.result()
            boarding.held += result.held
            boarding.settled += [(claim, Settlement("ended")) for claim in result.refused]
        return boarding


def _room(engine: Roomy, held: Mapping[str, HeldTask], key: BatchKey, priority: int) -> int:
    """Samples of that key that would be admitted now, less those that are on their way."""
    coming = sum(len(task.to_admit) for task in held.values() if task.claimed.batch_key == key)
    return engine.room(key.model, key.width, key.height, priority) - coming
