"""Where tickets wait: the Celery threads hold a task's message until the engine thread is done with the task.

So an unacknowledged ticket means an unfinished task, and Flower shows tasks on the worker that really runs them. A
ticket that nobody needs (its task has ended, runs elsewhere, or is unknown) is acknowledged at once: the buffer
decides what runs, not the ticket.
"""

import threading
import time
from dataclasses import dataclass, field
from typing import Literal

from redis.exceptions import RedisError

from generation.queue.buffer import Buffer

Fate = Literal["ended", "elsewhere", "again"]
PATIENCE_S = 3.0  # so long a ticket waits for its waiting task to be claimed before it goes back to its queue


@dataclass
class _Held:
    over: threading.Event = field(default_factory=threading.Event)
    again: bool = False


class TicketDesk:
    """Thread-safe. `buffer` is a client of its own: ticket threads must not share the engine's."""

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()
        self._kicked = threading.Event()
        self._hopeful = 0
        self._closed = False

    # ---- the engine thread

    def holds(self, task_id: str) -> None:
        """The task is on board."""
        with self._lock:
            self._held[task_id] = _Held()

    def ended(self, task_id: str, *, again: bool) -> None:
        """The task has left this worker; `again`: it will run once more, so its ticket goes back."""
        with self._lock:
            held = self._held.pop(task_id, None)
        if held is not None:
            held.again = again
            held.over.set()

    def wait_for_kick(self, seconds: float) -> None:
        """Sleeps until a ticket arrives, at most so long."""
        self._kicked.wait(seconds)
        self._kicked.clear()

    def kick(self) -> None:
        """Wakes the engine thread."""
        self._kicked.set()

    def close(self) -> None:
        """The engine thread has ended: every ticket goes back."""
        self._closed = True
        with self._lock:
            left, self._held = list(self._held.values()), {}
        for held in left:
            held.again = True
            held.over.set()

    # ---- the ticket threads

    @property
    def hopeful(self) -> int:
        """Tickets whose tasks are not claimed yet."""
        return self._hopeful

    def wait(self, task_id: str) -> Fate:
        """Returns when the task needs this ticket no more."""
        self._hopeful += 1
        try:
            held = self._find(task_id)
        finally:
            self._hopeful -= 1
        if isinstance(held, _Held):
            held.over.wait()
            return "again" if held.again else "ended"
        return held

    def _find(self, task_id: str) -> _Held | Fate:
        """Waits until the task is on board here, or it is clear that it will not be."""
        until = time.monotonic() + PATIENCE_S
        self.kick()
        while not self._closed:
            with self._lock:
                held = self._held.get(task_id)
            if held is not None:
                return held
            try:
                state, owner = self.buffer.state(task_id)
            except RedisError:
                return "again"
            ours = state == "r" and owner == self.buffer.config.worker
            if not ours and state != "w":
                return "elsewhere" if state == "r" else "ended"
            if time.monotonic() > until:
                return "again"
            time.sleep(0.02)
        return "again"
