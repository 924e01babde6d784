"""Where tickets wait: the Celery threads hold a task's message until the engine thread has settled the task.

So an unacknowledged ticket means an unfinished task, and Flower shows tasks on the worker that really runs them. A
ticket that nobody needs (its task has ended, runs elsewhere, or is unknown) is acknowledged at once: the buffer
decides what runs, not the ticket.
"""

import threading
import time
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from generation.queue.values import EntryState
from generation.queue.worker import WorkerQueue

CLAIM_PATIENCE_S = 3.0  # so long a ticket waits for its waiting task to be claimed before it is requeued


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

    def wait(self, task_id: str) -> bool:
        """Returns when the task needs this ticket no more: True, or has to run again under it: False."""
        self._unclaimed += 1
        try:
            found = self._find(task_id)
        finally:
            self._unclaimed -= 1
        if isinstance(found, bool):
            return found
        found.released.wait()
        return not found.runs_again

    def _find(self, task_id: str) -> _Hold | bool:
        """Waits until the task runs here, or it is clear that it will not: then as `wait`."""
        until = time.monotonic() + CLAIM_PATIENCE_S
        self.wake()
        while not self._closed:
            with self._lock:
                hold = self._holds.get(task_id)
            if hold is not None:
                return hold
            try:
                state, owner = self.queue.state(task_id)
            except RedisError:
                return False
            ours = state == EntryState.RUNNING and owner == self.queue.config.worker
            if not ours and state != EntryState.WAITING:
                return True
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return False
