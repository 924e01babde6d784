"""Where tickets wait: the Celery threads hold a task's message until the engine thread has settled the task.

So an unacknowledged ticket means an unfinished task, and Flower shows tasks on the worker that really runs them: the
ticket of a task that another worker claimed meanwhile is sent on to that one. A ticket that nobody needs (its task has
ended or is unknown) is acknowledged at once: the buffer decides what runs, not the ticket.
"""

import threading
import time
from dataclasses import dataclass, field
from enum import Enum, auto

from redis.exceptions import RedisError

from generation.queue.values import EntryState
from generation.queue.worker import WorkerQueue

CLAIM_PATIENCE_S = 3.0  # so long a ticket waits for its waiting task to be claimed before it is requeued


class TicketEnd(Enum):
    """What a ticket is to its task when this worker lets go of it."""

    NOT_NEEDED = auto()
    RUNS_AGAIN = auto()
    RUNS_ELSEWHERE = auto()


@dataclass
class _Hold:
    """One task that runs here."""

    released: threading.Event = field(default_factory=threading.Event)
    runs_again: bool = False


class TicketHolder:
    """Thread-safe. `queue` is a client of its own: ticket threads must not share the engine's."""

    def __init__(self, queue: WorkerQueue) -> None:
        self.queue = queue
        self._holds: dict[str, _Hold] = {}
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._unclaimed = 0
        self._closed = False

    # ---- the engine thread

    def hold(self, task_id: str) -> None:
        """The task runs here: its ticket is held until `release`."""
        with self._lock:
            self._holds[task_id] = _Hold()

    def release(self, task_id: str, *, runs_again: bool) -> None:
        """The task has left this worker. If it runs again, its ticket is requeued."""
        with self._lock:
            hold = self._holds.pop(task_id, None)
        if hold is not None:
            hold.runs_again = runs_again
            hold.released.set()

    def sleep(self, seconds: float) -> None:
        """Until a ticket arrives, at most so long."""
        self._woken.wait(seconds)
        self._woken.clear()

    def wake(self) -> None:
        """Ends the engine thread's sleep."""
        self._woken.set()

    def close(self) -> None:
        """The engine thread has ended: every ticket is requeued."""
        self._closed = True
        with self._lock:
            left = list(self._holds)
        for task_id in left:
            self.release(task_id, runs_again=True)

    # ---- the ticket threads

    @property
    def unclaimed(self) -> int:
        """Tickets whose tasks are not claimed yet."""
        return self._unclaimed

    def wait(self, task_id: str) -> TicketEnd:
        """Returns when the ticket's place is not here any more."""
        self._unclaimed += 1
        try:
            found = self._find(task_id)
        finally:
            self._unclaimed -= 1
        if isinstance(found, TicketEnd):
            return found
        found.released.wait()
        return TicketEnd.RUNS_AGAIN if found.runs_again else TicketEnd.NOT_NEEDED

    def _find(self, task_id: str) -> _Hold | TicketEnd:
        """Waits until the task runs here, or it is clear that it will not: then as `wait`."""
        until, received = time.monotonic() + CLAIM_PATIENCE_S, False
        self.wake()
        while not self._closed:
            with self._lock:
                hold = self._holds.get(task_id)
            if hold is not None:
                return hold
            try:
                if not received:
                    self.queue.receive_ticket(task_id)
                    received = True
                state, owner = self.queue.state(task_id)
            except RedisError:
                return TicketEnd.RUNS_AGAIN
            if state == EntryState.RUNNING and owner != self.queue.config.worker:
                return TicketEnd.RUNS_ELSEWHERE
            if state not in (EntryState.RUNNING, EntryState.WAITING):
                return TicketEnd.NOT_NEEDED
            if time.monotonic() > until:
                return TicketEnd.RUNS_AGAIN
            time.sleep(0.02)
        return TicketEnd.RUNS_AGAIN
