"""The attacks: each keeps up its load until it is cancelled."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from threading import Timer
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from fixtures.hostile import HostileServer

IMG2IMG: Final = "/api/v1/image/img2img"
GENERATE: Final = "/api/v1/image/generate"
AT_ONCE: Final = 100
WARM_UP_S: Final = 4.0  # until an attack of connections is under way
_HANGING: Final = 10  # fetches that hang: fewer than the threads of a web process, and than a user may have
_UPLOADERS: Final = 8  # threads of an IO worker: with so many open callbacks it would have none left
_PAUSE_S: Final = 5.0  # of an attacker's connection after a refusal: what hangs is measured, not requests per second


@dataclass(frozen=True)
class Scene:
    """Where the product is, the attacker's key, and the server that never answers. `stands` is called when the attack
    is under way.
    """

    url: str
    key: str
    hostile: HostileServer
    stands: Callable[[], None]


async def hanging_pictures(scene: Scene) -> None:
    """AT_ONCE requests whose pictures are on a server that sends a header line now and then."""

    async def one(client: httpx.AsyncClient) -> None:
        body = {"text": "x", "dry_run": True, "image": f"{scene.hostile.url}/head"}
        while True:
            with contextlib.suppress(httpx.HTTPError):
                await client.post(IMG2IMG, json=body)
            await asyncio.sleep(_PAUSE_S)

    async def watch() -> None:
        while scene.hostile.open["/head"] < _HANGING:
            await asyncio.sleep(0.05)
        await asyncio.sleep(WARM_UP_S)  # the first hundred connections and requests are over
        scene.stands()

    async with _client(scene) as client:
        await asyncio.gather(watch(), *(one(client) for _ in range(AT_ONCE)))


async def hanging_callbacks(scene: Scene) -> None:
    """AT_ONCE tasks whose callbacks are taken and never answered; at the first attempts the tasks are over."""
    async with _client(scene) as client:
        params = {"resolution": "256x256", "steps": 1, "seed": 11}
        first = await client.post(GENERATE, json={"text": "x", "params": params}, headers={"prefer": "wait=60"})
        first.raise_for_status()  # the others are answered from its result
        ids = []
        for number in range(AT_ONCE):
            body = {"text": "x", "params": params, "callback_url": f"{scene.hostile.url}/silent/{number}"}
            answer = await client.post(GENERATE, json=body)
            ids.append(answer.raise_for_status().json()["data"]["task_id"])
        for task_id in ids:  # until nothing is left of their work but the callbacks
            while scene.hostile.open["/silent"] < _UPLOADERS and not await _has_succeeded(client, task_id):
                await asyncio.sleep(0.2)
    while not scene.hostile.open["/silent"]:
        await asyncio.sleep(0.05)
    scene.stands()
    await asyncio.Event().wait()


async def _has_succeeded(client: httpx.AsyncClient, task_id: str) -> bool:
    return bool((await client.get(f"/api/v1/image/task/{task_id}")).json()["data"]["status"] == "succeeded")


async def half_heads(scene: Scene) -> None:
    """200 connections with half a head each, opened again when they are closed."""
    await _many(scene, 200, b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ")


async def dripping_bodies(scene: Scene) -> None:
    """AT_ONCE bodies without a key, of which a byte comes each second."""
    head = f"POST {GENERATE} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n{{"
    await _many(scene, AT_ONCE, head.encode(), drip=True)


async def large_bodies(scene: Scene) -> None:
    """Ten bodies of a gigabyte without a key, sent as fast as they are taken."""
    head = b"POST /healthz HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n\r\n"
    await _many(scene, 10, head, flood=os.urandom(1 << 16))


async def dear_documents(scene: Scene) -> None:
    """Four connections that send JSON of millions of values, and one that asks for the OpenAPI document."""

    async def documents(client: httpx.AsyncClient) -> None:
        content = b"[" + b"{}," * 5_000_000 + b"1]"
        while True:
            with contextlib.suppress(httpx.HTTPError):
                await client.post(GENERATE, content=content, headers={"content-type": "application/json"})
            await asyncio.sleep(0.2)

    async def schema(client: httpx.AsyncClient) -> None:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                await client.get("/api/schema")
            await asyncio.sleep(0.2)

    async with _client(scene) as client:
        await asyncio.gather(schema(client), *(documents(client) for _ in range(4)))


ATTACKS: Final[dict[str, Callable[[Scene], Coroutine[Any, Any, None]]]] = {
    "100 hanging picture addresses": hanging_pictures,
    "100 hanging callbacks": hanging_callbacks,
    "200 half heads": half_heads,
    "100 dripping bodies": dripping_bodies,
    "10 bodies of 1 GB without a key": large_bodies,
    "JSON of millions of values": dear_documents,
}


def perform(attack: str, url: str, key: str, standing: Event | None = None) -> None:
    """Keep up the attack of that name, with a hostile server of its own, until the process ends; `standing` is set when
    it is under way.
    """
    hostile = HostileServer()
    hostile.start()
    stands = standing.set if standing else lambda: None
    if "hanging" not in attack:
        Timer(WARM_UP_S, stands).start()
    asyncio.run(ATTACKS[attack](Scene(url, key, hostile, stands)))


def _client(scene: Scene) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=2 * AT_ONCE)
    headers = {"authorization": f"Bearer {scene.key}"}
    return httpx.AsyncClient(base_url=scene.url, headers=headers, timeout=120, limits=limits, trust_env=False)


async def _many(scene: Scene, count: int, head: bytes, *, drip: bool = False, flood: bytes = b"") -> None:
    where = urlsplit(scene.url)

    async def one() -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(where.hostname, where.port)
                writer.write(head)
                try:
                    await _go_on(reader, writer, drip, flood)
                finally:
                    writer.close()
            await asyncio.sleep(_PAUSE_S)

    await asyncio.gather(*(one() for _ in range(count)))


async def _go_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, drip: bool, flood: bytes) -> None:
    """Until the server hangs up."""
    if not (drip or flood):
        await reader.read()
        return
    while not reader.at_eof() and not writer.is_closing():
        writer.write(flood or b" ")
        await writer.drain()
        if drip:
            await asyncio.sleep(1)
