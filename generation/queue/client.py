"""The submitter's side of the buffer: how a row that may run becomes known to the GPU workers, and how it is withdrawn.

The row in Postgres is the truth. What stands in Redis is an index of it that can be lost at any moment and is rebuilt
by the reconciler: the buffer (order, batch keys, leases) and one Celery message per task, the ticket, which carries
the id only.

The keys: imagegenx_site/redis_clients.py.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from uuid import UUID

from redis.commands.core import Script
from redis.exceptions import RedisError

from generation.queue.celery_wire import ticket_message
from generation.queue.classes import CLASSES
from generation.queue.lua import load_script
from generation.queue.values import Withdrawal
from imagegenx_site import redis_clients

_MEASURED = ("s_per_megapixel_step", "s_per_step", "s_after_gpu")


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
    kind: str = ""

    @property
    def ticket(self) -> str:
        """The Celery message. Flower shows kind, model, size and number of pictures beside the id."""
        return self.ticket_with("")

    def ticket_with(self, id_suffix: str) -> str:
        """The same with another message id, "<id>.<id_suffix>"."""
        size = self.batch_key.rpartition(":")[2]
        pictures = f"{self.samples} picture" + ("s" if self.samples > 1 else "")
        shown = repr((str(self.task_id), self.kind, self.model, size, pictures))
        message_id = f"{self.task_id}.{id_suffix}" if id_suffix else ""
        return ticket_message(self.task_id, self.priority, shown=shown, message_id=message_id)

    def to_json(self) -> str:
        """As enqueue.lua takes it."""
        who = {"id": str(self.task_id), "class": self.priority, "key": self.batch_key, "user": self.user_id}
        when = {"created_ms": self.created_ms, "expires_ms": self.expires_ms}
        return json.dumps({**who, **when, "weight": self.weight, "model": self.model, "samples": self.samples})


@dataclass(frozen=True)
class Backlog:
    """What waits, by class: number of tasks and their summed weight (pixel-steps); and the workers that live."""

    tasks: tuple[int, ...]
    work: tuple[float, ...]
    workers: int = 0


@dataclass(frozen=True)
class QueuePosition:
    """Where a task stands: whether it waits, behind how many of its class, what waits besides, and what the workers
    have measured (generation/tasks/estimates.py), None before the first measurement.
    """

    waiting: bool
    ahead: int
    backlog: Backlog
    s_per_megapixel_step: float | None = None
    s_per_step: float | None = None
    s_after_gpu: float | None = None
    new: bool = False  # `enqueue` has just made it known

    @classmethod
    def read(cls, answer: bytes) -> "QueuePosition":
        """From what `queue_position` of layout.lua answers."""
        found = json.loads(answer)
        tasks, work = (tuple(number or 0 for number in found[name]) for name in ("tasks", "work"))
        backlog = Backlog(tuple(map(int, tasks)), tuple(map(float, work)), found["workers"])
        measured = {name: float(found[name]) for name in _MEASURED if name in found}
        return cls(found["waiting"], found["ahead"], backlog, new=found.get("new", False), **measured)


def enqueue(entries: Sequence[Entry]) -> list[QueuePosition] | None:
    """Puts queued rows into the buffer, each with its ticket in the same atomic step, all in one round trip. Call it
    after the rows are committed; calling it again changes nothing.

    An unreachable Redis is no error of the caller's: the rows are safe, the answer is None, and the reconciler enqueues
    them when Redis is back.
    """
    try:
        answers = _each(_script("enqueue"), [[entry.to_json(), entry.ticket] for entry in entries])
    except RedisError as error:
        ids = ", ".join(str(entry.task_id) for entry in entries)
        logger.warning("tasks are left to the reconciler: %s: %s", error, ids)
        return None
    return [QueuePosition.read(answer) for answer in answers]


def _each(script: Script, arguments: Sequence[Sequence[str]]) -> list[bytes]:
    """One script for several arguments, in one round trip."""
    if len(arguments) == 1:
        return [script(args=arguments[0])]
    with redis_clients.bytes_client().pipeline(transaction=False) as pipe:
        for one in arguments:
            script(args=one, client=pipe)
        return list(pipe.execute())


def resend_ticket(entry: Entry, *, id_suffix: str = "") -> bool:
    """Sends the ticket of a task once more, to where the task is: waiting without one, or running on a worker. Answers
    whether it was needed. `id_suffix` tells it from the first in Flower. Raises RedisError.
    """
    return bool(_script("resend_ticket")(args=[str(entry.task_id), entry.ticket_with(id_suffix)]))


def first_tickets() -> tuple[int, ...]:
    """The number of the oldest ticket in each class's queue, or the next one where the queue is empty. Raises
    RedisError.
    """
    with redis_clients.bytes_client().pipeline(transaction=True) as pipe:
        pipe.hmget("gq:tickets", *CLASSES)
        for priority in CLASSES:
            pipe.llen(f"p{priority}")
        numbers, *lengths = pipe.execute()
    return tuple(int(number or 0) - length + 1 for number, length in zip(numbers, lengths, strict=True))


def cancel(task_id: UUID) -> Withdrawal:
    """Withdraws a task from the queues: a waiting one at once, a running one at its next step. Raises RedisError."""
    return Withdrawal(_script("cancel")(args=[str(task_id)]).decode())


def set_priority(task_id: UUID, priority: int) -> bool:
    """Moves a waiting task with its ticket to another priority; False when it does not wait. Raises RedisError."""
    return bool(_script("reclass")(args=[str(task_id), str(priority)]))


def queue_position(task_id: UUID | str, batch_key: str) -> QueuePosition:
    """What `enqueue` answers, at any later time. Raises RedisError."""
    return QueuePosition.read(_script("queue_position")(args=[str(task_id), batch_key]))


def living_workers() -> list[str]:
    """The GPU workers whose lease is good, by their unique names. Raises RedisError."""
    now = int(redis_clients.bytes_client().time()[0]) * 1000
    return [name.decode() for name in redis_clients.bytes_client().zrangebyscore("gq:lease", now, "+inf")]


def backlog() -> Backlog:
    """The waiting tasks of each class. Raises RedisError."""
    return queue_position("", "").backlog


@cache
def _script(name: str) -> Script:
    return load_script(redis_clients.bytes_client(), name)
