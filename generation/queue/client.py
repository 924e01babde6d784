"""Tickets and the buffer: how a row that may run becomes known to the GPU workers, and how it is withdrawn.

The row in Postgres is the truth. What stands in Redis is an index of it that can be lost at any moment and is rebuilt
by the reconciler: the buffer (order, batch keys, leases) and one Celery message per task, the ticket, which carries
the id only.

The keys: imagegenx_site/redis_clients.py.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from redis.commands.core import Script
from redis.exceptions import RedisError

from generation.queue.celery_wire import ticket_message
from generation.queue.lua import load_script
from imagegenx_site import redis_clients

CLASSES = (0, 1, 2, 3)


LUA = Path(__file__).parent / "lua"


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A task as the buffer knows it. `weight` is the work it asks for (pixel-steps over all its samples): users and
    classes are charged by it. `expires_ms` 0 means never.
    """

    task_id: UUID
    priority: int
    batch_key: str  # the text of a BatchKey, as the row has it
    user_id: int
    weight: float
    created_ms: int
    expires_ms: int
    model: str
    samples: int = 1

    def arguments(self) -> list[str]:
        """What enqueue.lua takes: the fields in their order, and the ticket."""
        values = (self.task_id, self.priority, self.batch_key, self.user_id, self.weight, self.created_ms)
        rest = (self.expires_ms, self.model, self.samples, ticket_message(self.task_id, self.priority))
        return [str(value) for value in (*values, *rest)]


@dataclass(frozen=True)
class Backlog:
    """What waits, by class: number of tasks and their summed weight (pixel-steps); and the workers that live."""

    tasks: tuple[int, ...]
    work: tuple[float, ...]
    workers: int = 0


@dataclass(frozen=True)
class Place:
    """Where a task stands: whether it waits, behind how many of its class, what waits besides, and what the workers
    have measured (generation/tasks/estimates.py), None before the first measurement.
    """

    waiting: bool
    ahead: int
    backlog: Backlog
    full: float | None = None
    step: float | None = None
    after: float | None = None
    new: bool = False  # `enqueue` has just made it known

    @classmethod
    def read(cls, answer: Sequence[Any]) -> "Place":
        """From what the scripts answer (layout.lua)."""
        waiting, ahead, workers, *rest = answer
        tasks, work, measured = rest[:4], rest[4:8], rest[8:]
        backlog = Backlog(tuple(map(int, tasks)), tuple(map(float, work)), int(workers))
        full, step, after = (float(value) if value else None for value in measured)
        return cls(bool(waiting), int(ahead), backlog, full, step, after)


def enqueue(entries: Sequence[Entry]) -> list[Place] | None:
    """Puts queued rows into the buffer, each with its ticket in the same atomic step, all in one round trip. Call it
    after the rows are committed; calling it again changes nothing.

    An unreachable Redis is no error of the caller's: the rows are safe, the answer is None, and the reconciler enqueues
    them when Redis is back.
    """
    try:
        answers = _each(_script("enqueue"), [entry.arguments() for entry in entries])
    except RedisError as error:
        ids = ", ".join(str(entry.task_id) for entry in entries)
        logger.warning("tasks are left to the reconciler: %s: %s", error, ids)
        return None
    return [replace(Place.read(prospects), new=bool(new)) for new, *prospects in answers]


def _each(script: Script, arguments: Sequence[Sequence[str]]) -> list[list[Any]]:
    """One script for several arguments, in one round trip."""
    if len(arguments) == 1:
        return [script(args=arguments[0])]
    with redis_clients.bytes_client().pipeline(transaction=False) as pipe:
        for one in arguments:
            script(args=one, client=pipe)
        return list(pipe.execute())


def send_ticket(task_id: UUID | str, priority: int, *, again: str = "") -> None:
    """Sends the ticket of a task once more; `again` tells it from the first in Flower ("<id>.<again>").

    Raises RedisError when the broker is out of reach.
    """
    redis_clients.bytes_client().lpush(f"p{priority}", ticket_message(task_id, priority, again=again))


def cancel(task_id: UUID) -> Literal["removed", "signalled", "absent"]:
    """Withdraws a task from the queues: a waiting one at once, a running one at its next step. Raises RedisError."""
    answer: Literal["removed", "signalled", "absent"] = _script("cancel")(args=[str(task_id)]).decode()
    return answer


def reclass(task_id: UUID, priority: int) -> bool:
    """Moves a waiting task with its ticket into another class; False when it does not wait. Raises RedisError."""
    return bool(_script("reclass")(args=[str(task_id), str(priority)]))


def place_of(task_id: UUID | str, batch_key: str) -> Place:
    """What `enqueue` answers, at any later time. Raises RedisError."""
    return Place.read(_script("outlook")(args=[str(task_id), batch_key]))


def living_workers() -> list[str]:
    """The GPU workers whose lease is good, by their unique names. Raises RedisError."""
    now = int(redis_clients.bytes_client().time()[0]) * 1000
    return [name.decode() for name in redis_clients.bytes_client().zrangebyscore("gq:lease", now, "+inf")]


def backlog() -> Backlog:
    """The waiting tasks of each class. Raises RedisError."""
    return place_of("", "").backlog


@cache
def _script(name: str) -> Script:
    return load_script(redis_clients.bytes_client(), LUA / f"{name}.lua")
