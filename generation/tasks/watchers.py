"""Waiting for events of tasks without polling Postgres: one reader of the event stream for each event loop, which hands
each event to the watchers of its task.

Race, and why nothing is missed: the reader (0) has its place in the stream; a watcher (1) subscribes, (2) looks at the
row, (3) waits. An event between 1 and 3 is in its queue. Events are hints that can be lost (Redis was away), so the
reader also reads all watched rows together every POLL_S, or every POLL_S_WITHOUT_REDIS while Redis does not answer, and
publishes the ends that it finds there.
"""

import asyncio
import contextlib
import contextvars
import json
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID
from weakref import WeakKeyDictionary

import redis
from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError, close_old_connections, connection

from generation.tasks.events import STREAM
from generation.tasks.models import TERMINAL, Task
from imagegenx_site import redis_clients

POLL_S: Final = 10.0  # s between two readings of the watched rows
POLL_S_WITHOUT_REDIS: Final = 1.0  # the same while Redis is away
_BLOCK_MS: Final = 2000
_PAGE: Final = 1000  # entries read at a time when a watcher comes back; rows of one reading
_QUEUE_LENGTH: Final = 256  # events a slow watcher may fall behind before it loses the oldest

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """One entry of the stream; `id` is empty when it was read from the row instead."""

    id: str
    kind: str
    data: dict[str, Any]

    @property
    def is_end(self) -> bool:
        """Whether nothing follows."""
        return self.kind == "status" and self.data["status"] in TERMINAL


Queue = asyncio.Queue[Event]


class EventReader:
    """The one reader of an event loop."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[Queue]] = defaultdict(set)
        self._tasks: list[asyncio.Task[None]] = []
        self._placed = asyncio.Event()
        self._away = False
        self._newest = ""

    @property
    def newest(self) -> str:
        """The id of the newest entry that this reader has read; "" before the first."""
        return self._newest

    async def since(self, task_id: UUID, last: str) -> list[Event]:
        """The task's events after the entry `last`, as far as the stream reaches back; nothing when Redis is away."""
        found: list[Event] = []
        try:
            async with redis_clients.stream_reader() as client:
                while entries := await client.xrange(STREAM, min=f"({last}", count=_PAGE):
                    last = entries[-1][0]
                    mine = (entry for entry in entries if entry[1]["task"] == str(task_id))
                    found += [Event(name, fields["kind"], json.loads(fields["data"])) for name, fields in mine]
        except redis.RedisError as error:
            _log.warning("event stream out of reach: %s", error)
        return found

    @contextlib.asynccontextmanager
    async def watch(self, task_id: UUID) -> AsyncIterator[Queue]:
        """A queue of the task's events from now on."""
        if not self._tasks or any(task.done() for task in self._tasks):
            self._start()
        queue: Queue = asyncio.Queue(_QUEUE_LENGTH)
        self._watchers[str(task_id)].add(queue)
        try:
            await self._placed.wait()
            yield queue
        finally:
            self._watchers[str(task_id)].discard(queue)
            if not self._watchers[str(task_id)]:
                del self._watchers[str(task_id)]

    def _start(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._placed.clear()
        works = (self._read(), self._poll_rows())
        self._tasks = [asyncio.create_task(work, context=contextvars.Context()) for work in works]

    async def _read(self) -> None:
        last = ""
        async with redis_clients.stream_reader() as client:
            while True:
                try:
                    if not last:
                        newest = await client.xrevrange(STREAM, count=1)
                        last = newest[0][0] if newest else "0-0"
                    self._note_reach(away=False)
                    answer = await client.xread({STREAM: last}, block=_BLOCK_MS, count=500)
                except redis.RedisError as error:
                    _log.warning("event stream out of reach: %s", error)
                    self._note_reach(away=True)
                    await asyncio.sleep(0.5)
                    continue
                for entry_id, fields in _entries(answer):
                    last = self._newest = entry_id
                    self._publish(entry_id, fields["task"], fields["kind"], fields["data"])

    def _note_reach(self, *, away: bool) -> None:
        """Watchers need not wait for a place in the stream that can't be had."""
        self._away = away
        self._placed.set()

    async def _poll_rows(self) -> None:
        waited = 0.0
        while True:
            await asyncio.sleep(POLL_S_WITHOUT_REDIS)
            waited += POLL_S_WITHOUT_REDIS
            if not self._watchers or (waited < POLL_S and not self._away):
                continue
            waited = 0.0
            watched = list(self._watchers)
            for start in range(0, len(watched), _PAGE):
                for task_id, status in await ends_of(watched[start : start + _PAGE], keep_connection=False):
                    self._publish("", task_id, "status", json.dumps({"status": status}))

    def _publish(self, entry_id: str, task_id: str, kind: str, data: str) -> None:
        queues = self._watchers.get(task_id)
        if not queues:
            return
        event = Event(entry_id, kind, json.loads(data))
        for queue in queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)


def _entries(answer: Any) -> list[tuple[str, dict[str, str]]]:
    """The entries of an XREAD answer in either protocol version (a list of pairs, or a mapping)."""
    streams = answer.items() if isinstance(answer, dict) else (answer or [])
    found: list[tuple[str, dict[str, str]]] = []
    for _, entries in streams:
        for entry in entries[0] if entries and isinstance(entries[0], list) else entries:
            found.append((entry[0], entry[1]))
    return found


def later(entry_id: str, than: str) -> bool:
    """Whether a stream entry comes after another ("" as the other is before all)."""
    return not than or tuple(map(int, entry_id.split("-"))) > tuple(map(int, than.split("-")))


async def ends_of(task_ids: Sequence[str], *, keep_connection: bool = True) -> list[tuple[str, str]]:
    """Id and status of those of the tasks that have ended; none while Postgres is away."""
    return await sync_to_async(_ends_of)(task_ids, keep_connection)


def _ends_of(task_ids: Sequence[str], keep_connection: bool) -> list[tuple[str, str]]:
    close_old_connections()  # one that broke since the request began is made anew
    rows = Task.objects.filter(pk__in=task_ids, status__in=TERMINAL).values_list("id", "status")
    try:
        return [(str(task_id), status) for task_id, status in rows]
    except (OperationalError, InterfaceError) as error:
        _log.warning("waiting goes on, Postgres is out of reach: %s", error)
        return []
    finally:
        if not keep_connection:
            connection.close()


_readers: WeakKeyDictionary[asyncio.AbstractEventLoop, EventReader] = WeakKeyDictionary()


def reader() -> EventReader:
    """The reader of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _readers:
        _readers[loop] = EventReader()
    return _readers[loop]


async def until_ended(task_ids: Sequence[UUID], seconds: float) -> bool:
    """Wait for the end of all these tasks, `seconds` at most; whether they have ended."""
    async with contextlib.AsyncExitStack() as stack:
        queues = {str(one): await stack.enter_async_context(reader().watch(one)) for one in task_ids}
        for ended, _ in await ends_of(list(queues)):
            del queues[ended]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for queue in queues.values():
                    while not (await queue.get()).is_end:
                        continue
                return True
    return False
