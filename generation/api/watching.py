"""Waiting for what happens to a task without asking Postgres all the time: one reader of the event stream for each
event loop.

Race, and why nothing is missed: a watcher (1) subscribes, (2) looks at the row, (3) waits. An event between 1 and 3
is in its queue. When Redis is away, the row is looked at every POLL_S instead.
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
import redis.asyncio
from django.conf import settings

from generation.events import STREAM
from generation.models import TERMINAL, Task

POLL_S: Final = 2.0  # s between looks at the row while no event comes
_BLOCK_MS: Final = 2000
_PAGE: Final = 1000  # entries read at a time when a watcher comes back
_QUEUE_LENGTH: Final = 256  # events a slow watcher may fall behind before it loses the oldest

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Happening:
    """One entry of the stream."""

    id: str
    kind: str
    data: dict[str, Any]


class EventReader:
    """The one reader of an event loop; hands each event to the queues of those who watch its task."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[asyncio.Queue[Happening]]] = defaultdict(set)
        self._reading: asyncio.Task[None] | None = None
        self._newest = ""

    @property
    def newest(self) -> str:
        """The id of the newest entry that this reader has seen; "" before the first."""
        return self._newest

    async def since(self, task_id: UUID, last: str) -> list[Happening]:
        """The task's events after the entry `last`, as far as the stream reaches back; nothing when Redis is away."""
        found: list[Happening] = []
        try:
            async with self._client() as client:
                while entries := await client.xrange(STREAM, min=f"({last}", count=_PAGE):
                    last = entries[-1][0]
                    mine = (entry for entry in entries if entry[1]["task"] == str(task_id))
                    found += [Happening(name, fields["kind"], json.loads(fields["data"])) for name, fields in mine]
        except redis.RedisError as error:
            _log.warning("event stream out of reach: %s", error)
        return found

    @staticmethod
    def _client() -> "redis.asyncio.Redis[str]":
        return redis.asyncio.Redis.from_url(settings.REDIS_URL, decode_responses=True, socket_timeout=None)

    @contextlib.asynccontextmanager
    async def watch(self, task_id: UUID) -> AsyncIterator[asyncio.Queue[Happening]]:
        """A queue of the task's events from now on."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), context=contextvars.Context())
        queue: asyncio.Queue[Happening] = asyncio.Queue(_QUEUE_LENGTH)
        self._watchers[str(task_id)].add(queue)
        try:
            yield queue
        finally:
            self._watchers[str(task_id)].discard(queue)
            if not self._watchers[str(task_id)]:
                del self._watchers[str(task_id)]

    async def _read(self) -> None:
        last = "$"
        async with self._client() as client:
            while True:
                try:
                    answer = await client.xread({STREAM: last}, block=_BLOCK_MS, count=500)
                except redis.RedisError as error:
                    _log.warning("event stream out of reach: %s", error)
                    await asyncio.sleep(0.5)
                    continue
                for entry_id, fields in _entries(answer):
                    last = self._newest = entry_id
                    self._hand_out(entry_id, fields)

    def _hand_out(self, entry_id: str, fields: dict[str, str]) -> None:
        queues = self._watchers.get(fields["task"])
        if not queues:
            return
        happening = Happening(entry_id, fields["kind"], json.loads(fields["data"]))
        for queue in queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(happening)


def _entries(answer: Any) -> list[tuple[str, dict[str, str]]]:
    """The entries of an XREAD answer in either protocol version (a list of pairs, or a mapping)."""
    streams = answer.items() if isinstance(answer, dict) else (answer or [])
    found: list[tuple[str, dict[str, str]]] = []
    for _, entries in streams:
        for entry in entries[0] if entries and isinstance(entries[0], list) else entries:
            found.append((entry[0], entry[1]))
    return found


def later(entry_id: str, than: str) -> bool:
    """Whether a stream entry comes after another ("" is before all)."""
    return not than or tuple(map(int, entry_id.split("-"))) > tuple(map(int, than.split("-")))


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
        queues = {one: await stack.enter_async_context(reader().watch(one)) for one in task_ids}
        deadline = asyncio.get_running_loop().time() + seconds
        while queues:
            ended = Task.objects.filter(pk__in=list(queues), status__in=TERMINAL).values_list("id", flat=True)
            for one in [one async for one in ended]:
                del queues[one]
            left = deadline - asyncio.get_running_loop().time()
            if queues and left <= 0:
                return False
            if queues:
                await _next_end(next(iter(queues.values())), min(left, POLL_S))
    return True


async def _next_end(queue: "asyncio.Queue[Happening]", seconds: float) -> None:
    """Return at a terminal status event, or after `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                happening = await queue.get()
                if happening.kind == "status" and happening.data["status"] in TERMINAL:
                    return
