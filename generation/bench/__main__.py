"""`make bench-api`: submissions and polls a second, and clients held on event streams, with real Postgres and Redis.

    python -m deploy.services run -- python -m generation.bench [--requests 2000] [--streams 2000]

One web process and this load generator share the machine. Needs DATABASE_URL, REDIS_URL and SECRET_KEY.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imagegenx_site.settings")
django.setup()

from django.core.management import call_command  # noqa: E402  # after the settings

from generation import events  # noqa: E402
from generation.bench.client import flood  # noqa: E402
from generation.models import ApiKey, Plan, Team, User  # noqa: E402
from generation.uuid7 import from_public  # noqa: E402

HOST = "127.0.0.1"
_REQUEST = {"text": "a red circle", "params": {"resolution": "256x256", "steps": 8, "seed": 7, "style": "cartoon"}}


def main() -> None:
    """Prepare, serve, measure, print."""
    options = _options()
    call_command("migrate", verbosity=0)
    call_command("seed", verbosity=0)
    call_command("partitions", verbosity=0)
    key = _unlimited_key()
    with _server() as (port, process):
        asyncio.run(_measure((HOST, port), key, options, process))


async def _measure(address: tuple[str, int], key: str, options: argparse.Namespace, process: int) -> None:
    path = "/api/v1/image/generate"
    await flood(address, key, [("POST", path, _REQUEST)] * 200, options.connections)
    submitted, bodies = await flood(address, key, [("POST", path, _REQUEST)] * options.requests, options.connections)
    print(f"submissions: {submitted}", flush=True)
    ids = [json.loads(body)["data"]["task_id"] for body in bodies]
    polls = [("GET", f"/api/v1/image/task/{name}", None) for name in ids]
    polled, _ = await flood(address, key, polls, options.connections)
    print(f"polls:       {polled}", flush=True)
    if options.streams:
        await _streams(address, key, ids, options.streams, process)


async def _streams(address: tuple[str, int], key: str, ids: list[str], count: int, process: int) -> None:
    """Hold `count` streams, then tell each of one step and see when all have heard."""
    before = _memory_mb(process)
    readers, writers = [], []
    began = time.perf_counter()
    for start in range(0, count, 50):
        opened = await asyncio.gather(
            *(_open_stream(address, key, ids[n % len(ids)]) for n in range(start, min(start + 50, count)))
        )
        readers += [reader for reader, _ in opened]
        writers += [writer for _, writer in opened]
    held = time.perf_counter() - began
    memory = (_memory_mb(process) - before) * 1024 / count
    print(f"streams:     {count} held after {held:.1f} s, {memory:.0f} kB of memory each", flush=True)
    waiting = [asyncio.create_task(_until(reader, b"event: progress")) for reader in readers]
    began = time.perf_counter()
    for name in dict.fromkeys(ids[:count]):
        identifier = from_public(name)
        assert identifier is not None
        events.publish_progress(identifier, 50, 4, 8)
    published = time.perf_counter() - began
    await asyncio.gather(*waiting)
    print(
        f"fed:         all heard {time.perf_counter() - began:.2f} s after the first of {len(set(ids[:count]))} events"
        f" (publishing took {published:.2f} s)",
        flush=True,
    )
    for writer in writers:
        writer.close()


async def _open_stream(
    address: tuple[str, int], key: str, task_id: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*address)
    head = f"GET /api/v1/image/task/{task_id}/events HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {key}\r\n\r\n"
    writer.write(head.encode())
    await _until(reader, b"event: task")
    return reader, writer


async def _until(reader: asyncio.StreamReader, wanted: bytes) -> None:
    while wanted not in await reader.readline():
        if reader.at_eof():
            raise SystemExit("a stream ended early")


def _unlimited_key() -> str:
    everything = {"requests_per_second": 1_000_000, "concurrent_tasks": None, "daily_images": None}
    plan, _ = Plan.objects.update_or_create(name="bench", defaults={"title": "Bench", **everything})
    team, _ = Team.objects.get_or_create(name="bench", defaults={"plan": plan})
    user, _ = User.objects.get_or_create(username="bench", defaults={"team": team})
    return ApiKey.make(user, name="bench")[1]


@contextlib.contextmanager
def _server() -> Iterator[tuple[int, int]]:
    """A web process of the product: its port and its process id."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "imagegenx_site.asgi:application",
        "--port",
        str(port),
        "--no-access-log",
    ]
    command += ["--log-level", "warning"]
    process = subprocess.Popen(command, env={**os.environ, "LOG_LEVEL": "WARNING"})
    try:
        _wait_for(port)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        time.sleep(0.1)
    raise SystemExit("the web process did not start")


def _memory_mb(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--connections", type=int, default=24)
    parser.add_argument("--streams", type=int, default=2000, help="0: leave out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
