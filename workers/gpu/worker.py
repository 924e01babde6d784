"""The GPU worker inside a Celery worker: threads and processes, and how they start and stop together.

    Celery's main thread    reads tickets while the gate is open (generation/queue/read_order.py)
    ticket threads          hold a ticket until its task has left this worker (ticket_holder.py)
    engine thread           claim, admit, step, tick, settle (loop.py)
    side threads            rows (task_claims.py, settlement.py), pictures (persistence.py), progress (progress.py)
    watchdog process        lease, death, hang (watchdog.py)

The name before the @ must be that of the dq queue. The process is replaceable at any moment: whatever it held runs
elsewhere.
"""

import logging
import os
import signal
import uuid
from collections.abc import Callable
from contextlib import suppress

from celery import Celery, Task, bootsteps, shared_task
from celery.exceptions import Ignore, ImproperlyConfigured, Reject
from celery.signals import worker_shutting_down
from celery.worker import state as worker_state
from django.conf import settings
from redis.exceptions import RedisError

from generation.queue.celery_wire import ticket_message
from generation.queue.read_order import ReadOrder
from generation.queue.worker import WorkerQueue, WorkerQueueConfig
from imagegenx_site import redis_clients
from imagegenx_site.celery import app as site_app
from workers.gpu import model_commands
from workers.gpu.interfaces import EngineLike, PoolLike
from workers.gpu.loop import EngineLoop, LoopConfig
from workers.gpu.progress import ProgressReporter
from workers.gpu.ticket_holder import TicketEnd, TicketHolder
from workers.gpu.watchdog import WatchdogConfig, WatchdogHandle

logger = logging.getLogger(__name__)
EngineStarter = Callable[[], tuple[PoolLike, EngineLike]]
ENGINE_REDIS_TIMEOUT_S = 0.5  # of the engine thread: an unreachable Redis may cost a step, not more
TICKETS_AHEAD = 2  # unclaimed tickets that an idle worker holds
_tickets: TicketHolder | None = None


@shared_task(name="generate", bind=True)
def generate(self: Task, task_id: str) -> None:
    """The ticket of a task: unacknowledged until the task has left this worker; requeued if the task runs again."""
    end = _tickets.wait(task_id) if _tickets else TicketEnd.RUNS_AGAIN
    if end is TicketEnd.RUNS_AGAIN:
        with suppress(RedisError):
            if _tickets:
                _tickets.queue.return_ticket(task_id)
        raise Reject(f"{task_id} is to run again", requeue=True)
    if _tickets and end is TicketEnd.RUNS_ELSEWHERE:
        same = {"shown": self.request.get("argsrepr", ""), "message_id": self.request.id}
        _tickets.queue.forward_ticket(task_id, lambda priority: ticket_message(task_id, priority, **same))
        raise Ignore
    if self.request.id in worker_state.revoked:  # its task was cancelled meanwhile (generation/queue/revoke.py)
        self.send_event("task-revoked", terminated=True, signum=None, expired=False)
        raise Ignore


def install(app: Celery, start_engine: EngineStarter) -> None:
    """Gives the workers of this app an engine thread that lives from before the first ticket to after the last."""

    class EngineStep(bootsteps.StartStopStep):
        requires = ("celery.worker.components:Pool",)

        def start(self, worker: object) -> None:
            self.loop = make_loop(worker, start_engine)
            self.loop.start()
            self.loop.ready.wait()
            if self.loop.broken is not None:
                raise SystemExit(f"the engine did not start: {self.loop.broken}")
            worker_shutting_down.connect(self._stop_early, weak=False)

        def _stop_early(self, **_: object) -> None:
            """A stop was asked for: Celery will wait for its ticket threads, and those for the engine."""
            self.loop.stop()

        def stop(self, worker: object) -> None:
            self.loop.stop()
            self.loop.join()

        def terminate(self, worker: object) -> None:
            self.stop(worker)

    app.steps["worker"].add(EngineStep)


def make_loop(worker: object, start_engine: EngineStarter) -> EngineLoop:
    """The engine thread of a Celery worker with all that it needs, the watchdog first: before any device is touched."""
    global _tickets
    name = str(worker.hostname).partition("@")[0]  # type: ignore[attr-defined]
    own_queue = f"dq.{name}"
    if own_queue not in site_app.amqp.queues.consume_from:
        raise ImproperlyConfigured(f"the worker {name!r} must read the queue {own_queue!r}: add it to -Q")
    unique = f"{name[:63]}-{uuid.uuid4().hex}"  # no two of any number of workers, whose process ids are all 1
    watchdog = WatchdogHandle(
        WatchdogConfig(settings.REDIS_URL, unique, os.getpid(), settings.WORKER_POOL, hang=settings.HANG_SECONDS)
    )
    config = WorkerQueueConfig(
        worker=unique,
        own_queue=own_queue,
        models=tuple(settings.GPU_MODELS),
        shares=settings.QUEUE_SHARES,
        window_ms=settings.BATCH_WINDOW_MS,
        min_batch=settings.BATCH_MIN,
    )
    _tickets = tickets = TicketHolder(
        WorkerQueue(redis_clients.connect(settings.REDIS_URL, settings.REDIS_TIMEOUT_S), config)
    )
    queue = WorkerQueue(redis_clients.connect(settings.REDIS_URL, ENGINE_REDIS_TIMEOUT_S), config)
    looks = min(LoopConfig.idle_poll, settings.HANG_SECONDS / 4)  # an idle worker that sleeps longer seems to hang
    times = LoopConfig(idle_poll=looks, stop_grace=settings.STOP_SECONDS)
    loop = EngineLoop(
        queue, watchdog, tickets, ProgressReporter(unique), start_engine, times, on_broken=_terminate_process
    )
    model_commands.commands, loop.memory.node = loop.model_commands, str(worker.hostname)  # type: ignore[attr-defined]
    ReadOrder.gate = staticmethod(lambda: loop.idle and tickets.unclaimed < TICKETS_AHEAD)
    return loop


def _terminate_process() -> None:
    """The device or the engine is broken: this process must not take another task. Its supervisor starts a new one."""
    os.kill(os.getpid(), signal.SIGTERM)
