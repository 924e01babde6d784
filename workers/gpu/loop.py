"""The engine thread of a GPU worker: claim, admit, step, tick, retire.

The thread owns the engine and the buffer client. It waits for nothing but the device and one short call to Redis a
step; rows, files and messages are dealt with by side threads (handover.py), whose results it picks up at the next turn.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from redis.exceptions import RedisError

from generation.queue.buffer import Buffer, Claimed
from generation.queue.values import BatchKey
from generation.tasks.reasons import Code, Reason
from imagegenx_site import readiness
from imagegenx_site.config import GpuConfig
from workers.engine.requests import Cancelled, Event, Failed, Finished, Progress, SampleId, SampleRequest
from workers.engine.spec import ModelSpec
from workers.gpu import delivery, worker_alerts
from workers.gpu.held_tasks import HeldTask, Settlement
from workers.gpu.intake import Intake
from workers.gpu.progress import ProgressReporter
from workers.gpu.ticket_holder import TicketDesk
from workers.gpu.watchdog import Keeper

logger = logging.getLogger(__name__)


class EngineLike(Protocol):
    """What the loop asks of an engine; see workers/engine/__init__.py."""

    warm_key: BatchKey | None

    @property
    def idle(self) -> bool: ...
    @property
    def full_of_paused(self) -> bool: ...
    def surplus(self) -> list[str]: ...
    def room(self, model: str, width: int, height: int, priority: int) -> int: ...
    def admit(self, request: SampleRequest) -> None: ...
    def cancel(self, sample_id: SampleId) -> None: ...
    def step(self) -> list[Event]: ...
    def discard_all(self) -> None: ...


class PoolLike(Protocol):
    """What the loop asks of a model pool."""

    def ensure(self, spec: ModelSpec) -> None: ...
    def loaded(self) -> Collection[str] | None: ...
    def unload_idle(self) -> list[str]: ...


@dataclass(frozen=True)
class LoopConfig:
    """Times in seconds."""

    idle_poll: float = 0.05  # between claims while nothing runs
    tick_every: float = 0.015  # at most so often, however fast the steps
    redis_backoff: float = 1.0  # after a failed call, while samples go on
    patrol_every: float = 0.5  # orphans, strangers' leases
    stop_grace: float = GpuConfig.stop_s  # to finish what is on board after a stop was asked for
    delivery_patience: float = 60.0  # to make a finished picture durable before the task is handed back


class EngineLoop(threading.Thread):
    """See the module's docstring. `start_engine` makes pool and engine in this thread: the device belongs to it."""

    def __init__(
        self,
        buffer: Buffer,
        keeper: Keeper,
        desk: TicketDesk,
        reporter: ProgressReporter,
        start_engine: Callable[[], tuple[PoolLike, EngineLike]],
        config: LoopConfig,
        on_broken: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name="engine", daemon=True)
        self.buffer, self.keeper, self.desk, self.reporter, self.config = buffer, keeper, desk, reporter, config
        self.worker = buffer.config.worker
        self.ready = threading.Event()
        self.broken: BaseException | None = None
        self._start_engine, self._on_broken = start_engine, on_broken
        self._stop_at: float | None = None
        self._held: dict[str, HeldTask] = {}
        self._leaving: dict[Future[Settlement], HeldTask] = {}
        self._unsettled: list[tuple[Claimed, Settlement]] = []
        self._side_threads = ThreadPoolExecutor(4, thread_name_prefix="side")
        self._intake = Intake(buffer, self._side_threads)
        self._redis_from = self._next_tick = self._next_patrol = 0.0

    # ---- what other threads may call

    def stop(self) -> None:
        """Take nothing more, finish or hand back what is on board within the grace."""
        if self._stop_at is None:
            self._stop_at = time.monotonic() + self.config.stop_grace
        self.desk.kick()

    @property
    def idle(self) -> bool:
        """Nothing held: tickets are worth reading."""
        return self.ready.is_set() and not self._held and not self._intake.busy and self._stop_at is None

    def run(self) -> None:
        try:
            self.keeper.loading()
            self._pool, self._engine = self._start_engine()
            worker_alerts.report_working(self.worker)
            self.ready.set()
            while self._stop_at is None or self._something_left():
                self.turn()
            self._side_threads.shutdown(wait=True)
            self.keeper.retire()
        except BaseException as error:
            self.broken = error
            logger.exception("the engine thread ends; its tasks are put back")
            readiness.withdraw()
            failed = Reason(Code.DEVICE_LOST, f"the device or the engine failed: {error}")
            self._give_everything_back(failed, delivery.after_broken_engine)
            self.keeper.retire()
            worker_alerts.report_broken(self.worker, error)
            self._on_broken()
        finally:
            self.ready.set()
            self.desk.close()

    def turn(self) -> None:
        """One step of everything on board, and what comes before and after it."""
        self.keeper.alive()
        self._claim()
        self._admit()
        events = self._engine.step()
        self._tick()
        self._return_surplus()
        self._retire(events)
        if not events:
            self._pause()

    # ---- claim, admit

    def _claim(self) -> None:
        if self._stop_at is not None or time.monotonic() < self._redis_from:
            return
        try:
            self._intake.claim(self._engine, self._held, self._pool.loaded())
        except RedisError as error:
            self._redis_away(error)

    def _admit(self) -> None:
        """Tasks whose rows were won come on board, as far as there is room."""
        boarding = self._intake.boarded()
        self._unsettled += boarding.settled
        for held in boarding.held:
            self._pool.ensure(held.spec)
            self._held[held.id] = held
            self.desk.holds(held.id)
        for held in self._held.values():
            while held.to_admit and self._fits(held):
                sample = held.to_admit.popleft()
                held.on_board.add(sample.sample_id)
                self._engine.admit(sample)

    def _fits(self, held: HeldTask) -> bool:
        sample = held.to_admit[0]
        return not held.on_board or self._engine.room(sample.model, sample.width, sample.height, sample.priority) > 0

    # ---- tick

    def _tick(self) -> None:
        """What Redis has to say at this step boundary: cancels, lost leases, P0. Out of reach: samples go on."""
        now = time.monotonic()
        if now < max(self._next_tick, self._redis_from):
            return
        self._next_tick = now + self.config.tick_every
        try:
            self._settle_rest()
            tick = self.buffer.tick([held.claimed for held in self._held.values()])
            if now >= self._next_patrol:
                self._next_patrol = now + self.config.patrol_every
                self.buffer.orphans(self._intake.ids() | self._held.keys())
            if tick.stranger_died:
                self.buffer.reap()
        except RedisError as error:
            self._redis_away(error)
            return
        self._intake.heard(tick)
        for task_id, verdict in tick.verdicts.items():
            held = self._held[task_id]
            if verdict != "ok" and not held.ending and not held.leaving:
                self._give_up(held, "cancelled" if verdict == "cancel" else "lost")

    def _give_up(self, held: HeldTask, ending: str) -> None:
        held.give_up(ending)  # type: ignore[arg-type]  # one of the words of Ending
        for sample_id in held.on_board:
            self._engine.cancel(sample_id)

    def _return_surplus(self) -> None:
        """Paused work holds too much memory: some of it goes back to the front of its queues."""
        for task_id in self._engine.surplus():
            held = self._held[task_id]
            if not held.ending and not held.leaving:
                logger.warning("paused task %s goes back to its queue: no memory for more paused work", task_id)
                self._give_up(held, "returned")

    # ---- retire

    def _retire(self, events: list[Event]) -> None:
        """Take note of what the step brought; ended tasks go to a side thread; what it is done with is settled."""
        if events:
            self._intake.worked()
        for event in events:
            held = self._held.get(event.sample_id.task_id)
            if held is not None:
                self._note(held, event)
        self.reporter.steps(self._held, events, crowded=self._intake.crowded)
        for held in self._held.values():
            if not held.leaving and held.off_board and (held.complete or held.ending):
                self._leave(held)
        for future in [future for future in self._leaving if future.done()]:
            self._ended(future)

    def _note(self, held: HeldTask, event: Event) -> None:
        if isinstance(event, Progress):
            held.done[event.sample_id] = event.step / event.steps
            return
        held.on_board.discard(event.sample_id)
        if isinstance(event, Finished):
            held.done[event.sample_id] = 1.0
            held.images[event.sample_id.index] = event.image
            held.warnings += [warning for warning in event.warnings if warning not in held.warnings]
        elif isinstance(event, Failed):
            logger.error("sample %s failed: %s", event.sample_id, event.error)
            if not held.ending:
                held.error, held.retryable = event.error, event.retryable
                self._give_up(held, "failed")
        elif isinstance(event, Cancelled) and not held.ending:
            self._give_up(held, "cancelled")

    def _leave(self, held: HeldTask) -> None:
        held.leaving = True
        work = (
            delivery.abandon
            if held.ending
            else partial(delivery.deliver_patiently, patience=self.config.delivery_patience)
        )
        self._leaving[self._side_threads.submit(work, held, self.worker)] = held

    def _ended(self, future: Future[Settlement]) -> None:
        held = self._leaving.pop(future)
        error = future.exception()
        if error is not None:
            logger.error("task %s is left to the reconciler: %s", held.id, error, exc_info=error)
        settlement = Settlement("waiting") if error is not None else future.result()
        del self._held[held.id]
        if held.ending != "lost":
            self._unsettled.append((held.claimed, settlement))
        self.desk.ended(held.id, again=settlement.outcome != "ended")

    def _settle_rest(self) -> None:
        while self._unsettled:
            claimed, settlement = self._unsettled[0]
            self.buffer.settle(claimed, settlement.outcome)
            if settlement.enqueue_again:
                self._side_threads.submit(delivery.enqueue_again, claimed.task_id)
            self._unsettled.pop(0)

    # ---- pauses and ends

    def _pause(self) -> None:
        """Nothing moved: a model is loading, a side thread is at work, or there is nothing to do."""
        if self._held or self._intake.busy or self._unsettled:
            time.sleep(0.002)
            return
        self._pool.unload_idle()
        self.desk.wait_for_kick(self.config.idle_poll)
        self._intake.hope()

    def _redis_away(self, error: RedisError) -> None:
        if time.monotonic() > self._redis_from + 2 * self.config.redis_backoff:
            logger.warning("Redis is out of reach, samples on board go on: %s", error)
        self._redis_from = time.monotonic() + self.config.redis_backoff

    def _something_left(self) -> bool:
        """While stopping: True until everything on board is finished, or handed back because the grace is over."""
        if not (self._held or self._intake.busy or self._unsettled):
            return False
        if self._stop_at is not None and time.monotonic() > self._stop_at and not self._leaving:
            self._give_everything_back(Reason(Code.STOPPED, "the worker was stopped"), delivery.hand_back)
            return False
        return True

    def _give_everything_back(self, reason: Reason, give_back: Callable[[HeldTask, str, Reason], Settlement]) -> None:
        """Rows and buffer entries of everything on board; what cannot be said is found by watchdog and reconciler."""
        boarding = self._intake.boarded(wait=True)
        self._unsettled += boarding.settled
        self._held |= {held.id: held for held in boarding.held}
        for held in self._held.values():
            try:
                settlement = give_back(held, self.worker, reason)
            except Exception:
                logger.exception("row of %s not handed back", held.id)
                settlement = Settlement("waiting")
            self._unsettled.append((held.claimed, settlement))
            self.desk.ended(held.id, again=settlement.outcome != "ended")
        self._held.clear()
        try:
            self._settle_rest()
        except RedisError as error:
            logger.warning("buffer entries not given back: %s", error)
