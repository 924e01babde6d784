"""The engine thread of a GPU worker: claim, admit, step, tick, settle.

The thread owns the engine and the queue client. It waits for nothing but the device and one short call to Redis a
step; rows and files are dealt with by side threads, whose results it picks up at the next turn.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from redis.exceptions import RedisError

from generation.queue.worker import WorkerQueue
from imagegenx_site import readiness
from imagegenx_site.config import GpuConfig
from workers.engine.requests import Cancelled, Event, Failed, Finished, Progress
from workers.gpu import model_health, worker_alerts
from workers.gpu.intake import Intake
from workers.gpu.interfaces import EngineLike, PoolLike
from workers.gpu.model_commands import ModelCommands
from workers.gpu.model_memory import MemoryReporter
from workers.gpu.outcomes import End, Outcome
from workers.gpu.progress import ProgressReporter
from workers.gpu.running_tasks import RunningTask
from workers.gpu.settlement import Settler
from workers.gpu.ticket_holder import TicketHolder
from workers.gpu.watchdog import WatchdogHandle

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopConfig:
    """Times in seconds."""

    idle_poll: float = 5.0  # between claims while nothing runs: a ticket ends the sleep, this is for one that was lost
    busy_poll: float = 0.02  # while a model loads; side threads end the sleep when they are done
    tick_every: float = 0.015  # at most so often, however fast the steps
    redis_backoff: float = 1.0  # after a failed call, while samples go on
    trim_after: float = 10.0  # without work the memory that is kept for the next pictures is given back
    unload_every: float = 1.0  # looks for models that nobody uses, however busy others are
    check_every: float = 0.5  # claims whose answers were lost, leases of others
    stop_grace: float = GpuConfig.stop_s  # to finish what runs after a stop was asked for
    persistence_patience: float = 60.0  # to make a finished picture durable before the task is requeued


class EngineLoop(threading.Thread):
    """See the module's docstring. `start_engine` makes pool and engine in this thread: the device belongs to it."""

    def __init__(
        self,
        queue: WorkerQueue,
        watchdog: WatchdogHandle,
        tickets: TicketHolder,
        reporter: ProgressReporter,
        start_engine: Callable[[], tuple[PoolLike, EngineLike]],
        config: LoopConfig,
        on_broken: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name="engine", daemon=True)
        self.queue, self.watchdog, self.tickets, self.reporter = queue, watchdog, tickets, reporter
        self.config = config
        self.ready = threading.Event()
        self.broken: BaseException | None = None
        self._start_engine, self._on_broken = start_engine, on_broken
        self._stop_at: float | None = None
        self._running: dict[str, RunningTask] = {}
        self._side_threads = ThreadPoolExecutor(4, thread_name_prefix="side")
        self._intake = Intake(queue, self._side_threads, wake=tickets.wake)
        self._settler = Settler(queue, tickets, self._side_threads, config.persistence_patience)
        self.model_commands = ModelCommands(wake=tickets.wake)
        self.memory = MemoryReporter(queue.config.worker)
        self._redis_from = self._next_tick = self._next_check = self._next_unload = self._trim_at = 0.0

    # ---- what other threads may call

    def stop(self) -> None:
        """Take nothing more; finish what runs within the grace, requeue the rest."""
        if self._stop_at is None:
            self._stop_at = time.monotonic() + self.config.stop_grace
        self.tickets.wake()

    @property
    def idle(self) -> bool:
        """Nothing runs: tickets are worth reading."""
        return self.ready.is_set() and not self._running and not self._intake.busy and self._stop_at is None

    def run(self) -> None:
        try:
            self.watchdog.loading()
            self._pool, self._engine = self._start_engine()
            self._engine.wake = self.tickets.wake
            self.ready.set()
            while self._stop_at is None or self._something_left(self._stop_at):
                self.turn()
            self._side_threads.shutdown(wait=True)
            self.memory.leave()
            self.watchdog.leave()
        except BaseException as error:
            self.broken = error
            logger.exception("the engine thread ends; its tasks are requeued")
            readiness.withdraw()
            self._settle_everything(Outcome(End.DEVICE_LOST, error))
            worker_alerts.report_broken(self.queue.config.worker, error)  # first: its place in the pool stays open
            self.watchdog.leave()
            self._on_broken()
        finally:
            self.ready.set()
            self.tickets.close()

    def turn(self) -> None:
        """One step of everything in the engine, and what comes before and after it."""
        self.watchdog.alive()
        self._claim()
        self._admit()
        events = self._engine.step()
        self._tick()
        self._evict_paused()
        self._note(events)
        self._settle()
        self._tend_models()
        if not events:
            self._pause()

    # ---- claim, admit

    def _claim(self) -> None:
        if self._stop_at is not None or time.monotonic() < self._redis_from:
            return
        try:
            self._intake.claim(self._engine, self._running, self._pool.loaded())
        except RedisError as error:
            self._redis_away(error)

    def _admit(self) -> None:
        """Tasks whose rows were won run from now on; their samples enter the engine as far as there is room."""
        claimed = self._intake.take_claimed()
        for entry in claimed.released:
            self._settler.release_entry(*entry)
        for running in claimed.running:
            self._pool.ensure(running.spec)
            self._running[running.id] = running
            self.tickets.hold(running.id)
        for running in self._running.values():
            while running.to_admit and self._fits(running):
                sample = running.to_admit.popleft()
                running.admitted.add(sample.sample_id)
                self._engine.admit(sample)

    def _fits(self, running: RunningTask) -> bool:
        sample = running.to_admit[0]
        return not running.admitted or self._engine.room(sample.model, sample.width, sample.height, sample.priority) > 0

    # ---- tick

    def _tick(self) -> None:
        """Asks Redis for cancels, expired leases and P0. While it is out of reach samples go on."""
        now = time.monotonic()
        if now < max(self._next_tick, self._redis_from):
            return
        self._next_tick = now + self.config.tick_every
        try:
            self._settler.release_entries()
            tick = self.queue.tick([running.claimed for running in self._running.values()])
            if now >= self._next_check:
                self._next_check = now + self.config.check_every
                self.queue.requeue_orphans(self._intake.claimed_ids() | self._running.keys())
            if tick.lease_expired:
                self.queue.requeue_dead()
        except RedisError as error:
            self._redis_away(error)
            return
        self._intake.note_tick(tick)
        for task_id in tick.cancelled:
            self._end(task_id, Outcome(End.CANCELLED))
        for task_id in tick.taken_over:
            self._end(task_id, Outcome(End.TAKEN_OVER))

    def _evict_paused(self) -> None:
        """Paused work holds too much memory: some of it is requeued at the front."""
        for task_id in self._engine.tasks_to_evict():
            if self._running[task_id].outcome is None:
                logger.warning("paused task %s is requeued: no memory for more paused work", task_id)
                self._end(task_id, Outcome(End.RETURNED))

    def _end(self, task_id: str, outcome: Outcome) -> None:
        """The task ends before all its pictures are there: its samples leave the engine, then it is settled."""
        running = self._running[task_id]
        if running.outcome is None:
            running.end(outcome)
            for sample_id in running.admitted:
                self._engine.cancel(sample_id)

    # ---- settle

    def _note(self, events: list[Event]) -> None:
        """What the step brought."""
        if events:
            self._intake.note_step()
            self._trim_at = time.monotonic() + self.config.trim_after
        for event in events:
            running = self._running.get(event.sample_id.task_id)
            if running is not None:
                self._note_event(running, event)
        self.reporter.report(self._running, events, tasks_wait=self._intake.tasks_wait)

    def _note_event(self, running: RunningTask, event: Event) -> None:
        if isinstance(event, Progress):
            running.done[event.sample_id] = event.step / event.steps
            return
        running.admitted.discard(event.sample_id)
        if isinstance(event, Finished | Failed):
            running.note_times(event)
        if isinstance(event, Finished):
            running.finish_sample(event)
        elif isinstance(event, Failed):
            logger.error("sample %s failed: %s", event.sample_id, event.error)
            self._end(running.id, Outcome(End.FAILED, event.error, retryable=event.retryable))
        elif isinstance(event, Cancelled):
            self._end(running.id, Outcome(End.CANCELLED))

    def _settle(self) -> None:
        """Tasks that have come to an end go to a side thread; those that it is done with have left."""
        for running in self._running.values():
            if running.settleable:
                self._settler.settle(running)
        for task_id in self._settler.take_settled():
            del self._running[task_id]

    # ---- pauses and ends

    def _pause(self) -> None:
        """Nothing moved: a model is loading, a side thread is at work, or there is nothing to do."""
        if self._busy:
            self.tickets.sleep(self._intake.patience(self.config.busy_poll))
            return
        self._trim_when_idle()
        self.tickets.sleep(self._intake.patience(self.config.idle_poll))
        self._intake.look_again()

    def _trim_when_idle(self) -> None:
        if self._trim_at and time.monotonic() > self._trim_at:
            self._trim_at = 0.0
            self._pool.trim()

    def _tend_models(self) -> None:
        """What operators ask for. Models that were unused for long leave the memory, also under a steady load of
        another.
        """
        self.model_commands.carry_out(self._pool)
        now = time.monotonic()
        if now >= self._next_unload:
            self._next_unload = now + self.config.unload_every
            self._pool.unload_idle()
            for key, error in self._pool.settle_requested().items():
                self._side_threads.submit(model_health.note_failed_key, key, error)
            self.memory.report(self._pool.sizes(), str(getattr(self._pool, "device", "")), self._side_threads)

    @property
    def _busy(self) -> bool:
        return bool(self._running) or self._intake.busy or not self._settler.idle

    def _redis_away(self, error: RedisError) -> None:
        if time.monotonic() > self._redis_from + 2 * self.config.redis_backoff:
            logger.warning("Redis is out of reach, samples in the engine go on: %s", error)
        self._redis_from = time.monotonic() + self.config.redis_backoff

    def _something_left(self, stop_at: float) -> bool:
        """While stopping: True until all that runs is finished, or requeued because the grace is over."""
        if not self._busy:
            return False
        if time.monotonic() > stop_at and not self._settler.moving_rows:
            self._settle_everything(Outcome(End.STOPPED))
            return False
        return True

    def _settle_everything(self, outcome: Outcome) -> None:
        """Settles everything that is claimed; what fails here is repaired by watchdog and reconciler."""
        claimed = self._intake.take_claimed(wait=True)
        for entry in claimed.released:
            self._settler.release_entry(*entry)
        for running in [*self._running.values(), *claimed.running]:
            self._settler.settle_now(running, outcome)
        self._running.clear()
        try:
            self._settler.release_entries()
        except RedisError as error:
            logger.warning("buffer entries not released: %s", error)
