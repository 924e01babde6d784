"""Many clients on event streams of one web process: each hears its task's events, a slow one holds nobody up.

`make bench-api` does the same with thousands, and measures.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from deploy.bench.api.client import encoded
from generation.accounts.models import User
from generation.tasks import events
from generation.tasks.models import Task
from imagegenx_site import redis_clients

pytestmark = pytest.mark.django_db(transaction=True)
CLIENTS = 300
PATIENCE_S = 120.0
Streams = list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


async def opened(url: str, key: str, task: Task) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream on the task, read up to its first event."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=1 << 20)
    writer.write(encoded("GET", f"/api/v1/image/task/{task.public_id}/events", key))
    await next_event(reader, "task")
    return reader, writer


async def next_event(reader: asyncio.StreamReader, kind: str) -> dict[str, Any]:
    """The data of the next event of that kind."""
    async with asyncio.timeout(PATIENCE_S):
        while (line := await reader.readline()) != f"event: {kind}\n".encode():
            assert line, "the stream ended early"
        data: dict[str, Any] = json.loads((await reader.readline()).removeprefix(b"data: "))
        return data


@pytest.fixture
def key(owner: User, key_of: Callable[..., str]) -> str:
    owner.team.plan.requests_per_second = 100_000  # type: ignore[union-attr]
    owner.team.plan.save()  # type: ignore[union-attr]
    return key_of(owner)


def test_hundreds_of_clients_hear_of_their_own_tasks_only(live: str, key: str, make_task: Callable[..., Task]) -> None:
    tasks = [make_task() for _ in range(10)]

    async def watch() -> list[dict[str, Any]]:
        streams: Streams = []
        for start in range(0, CLIENTS, 50):
            wanted = [tasks[number % len(tasks)] for number in range(start, start + 50)]
            streams += await asyncio.gather(*(opened(live, key, task) for task in wanted))
        for number, task in enumerate(tasks):
            await asyncio.to_thread(events.publish_progress, task.id, number, 1, 2)
        received = await asyncio.gather(*(next_event(reader, "progress") for reader, _ in streams))
        for _, writer in streams:
            writer.close()
        return list(received)

    received = asyncio.run(watch())
    assert [data["progress"] for data in received] == [number % len(tasks) for number in range(CLIENTS)]


def test_a_client_that_does_not_read_holds_nobody_up(live: str, key: str, make_task: Callable[..., Task]) -> None:
    """More is sent than the sockets between server and client can hold; the other client hears the last of it."""
    task = make_task()
    count, filler = 400, "x" * 50_000

    async def watch() -> None:
        _, idle = await opened(live, key, task)  # never read again
        reader, writer = await opened(live, key, task)
        for number in range(count):
            data = {"image": filler, "number": number}
            await asyncio.to_thread(events.publish, task.id, "preview", data)
            if number % 50 == 49:  # an attentive client keeps up
                while (await next_event(reader, "preview"))["number"] != number:
                    continue
        writer.close()
        idle.close()

    asyncio.run(watch())
    redis_clients.text_client().delete(events.STREAM)
