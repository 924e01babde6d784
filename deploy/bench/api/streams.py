"""Measures clients on event streams: memory, CPU, and how soon all of them receive an event."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.bench.api.client import Address, encoded
from deploy.bench.machine import Web
from generation.tasks import events
from imagegenx_site.ids import from_public

_OPENED_AT_ONCE = 50


@dataclass(frozen=True)
class StreamFigures:
    """Streams on one web process: seconds to open all of them, memory (kB) and CPU (ms) of the web process per stream,
    seconds from the first of `events` published events until every client has received its own, and the web process's
    CPU (ms) per client.
    """

    streams: int
    opened_s: float
    memory_kb: float
    open_cpu_ms: float
    events: int
    published_s: float
    received_s: float
    send_cpu_ms: float


async def hold(address: Address, web: Web, key: str, ids: Sequence[str], count: int) -> StreamFigures:
    """Open `count` streams on tasks in turn, then publish one step of each task and wait until every client has
    received it.
    """
    memory, cpu, began = web.memory_mb(), web.cpu().web, time.perf_counter()
    streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    for start in range(0, count, _OPENED_AT_ONCE):
        names = [ids[number % len(ids)] for number in range(start, min(start + _OPENED_AT_ONCE, count))]
        streams += await asyncio.gather(*(_open(address, key, name) for name in names))
    opened, grown, opening = time.perf_counter() - began, web.memory_mb() - memory, web.cpu().web - cpu
    watched = list(dict.fromkeys(ids[:count]))
    waiting = [asyncio.create_task(_until(reader, b"event: progress")) for reader, _ in streams]
    cpu, began = web.cpu().web, time.perf_counter()
    for name in watched:
        identifier = from_public(name)
        assert identifier is not None
        events.publish_progress(identifier, 50, 4, 8)
    published = time.perf_counter() - began
    await asyncio.gather(*waiting)
    received, sending = time.perf_counter() - began, web.cpu().web - cpu
    for _, writer in streams:
        writer.close()
    each = 1000 / count
    return StreamFigures(
        count, opened, grown * 1024 / count, opening * each, len(watched), published, received, sending * each
    )


async def _open(address: Address, key: str, task: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*address, limit=1 << 14)
    writer.write(encoded("GET", f"/api/v1/image/task/{task}/events", key))
    await _until(reader, b"event: task")
    return reader, writer


async def _until(reader: asyncio.StreamReader, expected: bytes) -> None:
    while expected not in await reader.readline():
        if reader.at_eof():
            raise SystemExit("a stream ended early")
