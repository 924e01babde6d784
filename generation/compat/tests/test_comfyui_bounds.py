"""One client of ComfyUI's door stops nobody: what its websocket, its graphs and its uploads may hold."""

import asyncio
import json
import os
import struct
import zlib
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from fixtures.rows import picture_bytes
from generation.accounts.models import ApiKey, User
from generation.catalogue.models import ImageModel
from generation.compat.comfyui import records, socket, uploads
from generation.compat.comfyui.records import PromptRecord
from generation.compat.tests.test_comfyui import LOAD, graph, post, send
from imagegenx_site import redis_clients, web_server
from imagegenx_site.ids import uuid7
from storage.store import get_store

pytestmark = [pytest.mark.attacks, pytest.mark.django_db(transaction=True)]
MASK = b"\0\0\0\0"


@pytest.fixture
def client(client_of: Callable[..., Client], owner: User, able_model: ImageModel) -> Client:
    return client_of(owner)


class RawSocket:
    """A websocket by hand, which can send what no library would."""

    def __init__(self, live: str, key: str, **headers: str) -> None:
        self._host, self._key, self._more = live.removeprefix("http://"), key, headers

    async def open(self) -> bytes:
        """The head of the answer."""
        host, _, port = self._host.partition(":")
        self.reader, self.writer = await asyncio.open_connection(host, int(port))
        lines = [
            "GET /ws HTTP/1.1", f"Host: {self._host}", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Extensions: permessage-deflate", f"X-API-Key: {self._key}",
            *(f"{name}: {value}" for name, value in self._more.items()),
        ]  # fmt: skip
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 20)

    async def closed(self) -> bool:
        """Whether the server ends the connection within seconds."""
        try:
            async with asyncio.timeout(10):
                while await self.reader.read(1 << 16):
                    continue
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True


def frame(opcode: int, length: int) -> bytes:
    return bytes([0x80 | opcode, 0x80 | 127]) + struct.pack(">Q", length) + MASK


def test_a_socket_neither_unpacks_nor_keeps_what_its_client_sends(
    live: str, owner: User, key_of: Callable[..., str]
) -> None:
    """Of 16 KiB sent over and over uvicorn made 16 MiB each time: four clients, and nobody was answered for 10 s."""
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = (pack.compress(b"\0" * (16 << 20)) + pack.flush(zlib.Z_SYNC_FLUSH))[:-4]
    small = bytes([0x89, 0x80]) + MASK
    attacks = {
        "packed": bytes([0xC2, 0x80 | 126]) + struct.pack(">H", len(bomb)) + MASK + bomb,
        "one that never ends": frame(2, 15 << 20) + b"\0" * 1000,
        "pings": small * (web_server.SOCKET_BYTES // len(small) + (web_server.MAX_HEAD // len(small)) + 10),
    }

    key = key_of(owner)

    async def attack(sent: bytes) -> tuple[bytes, bool]:
        one = RawSocket(live, key)
        head = await one.open()
        one.writer.write(sent)
        try:
            return head, await one.closed()
        finally:
            one.writer.close()

    for name, sent in attacks.items():
        head, closed = asyncio.run(attack(sent))
        assert (b"101" in head, b"deflate" in head.lower()) == (True, False)
        assert closed, name


def test_a_strange_origin_is_refused_and_no_error(live: str, owner: User, key_of: Callable[..., str]) -> None:
    for origin in ("http://[", "null", "http://evil.example"):
        assert b" 403 " in asyncio.run(RawSocket(live, key_of(owner), Origin=origin).open()), origin
    assert b" 403 " in asyncio.run(RawSocket(live, key_of(owner), **{"Sec-Fetch-Site": "cross-site"}).open())


def test_a_socket_ends_with_its_key(
    live: str, owner: User, key_of: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "RECHECK_S", 0.1)
    key = key_of(owner)

    def revoke() -> None:
        ApiKey.objects.filter(prefix=key.split("_")[1]).update(revoked_at=timezone.now())
        connection.close()

    async def watch() -> bool:
        one = RawSocket(live, key)
        await one.open()
        await asyncio.sleep(0.5)
        assert not one.reader.at_eof()
        await asyncio.to_thread(revoke)
        return await one.closed()

    assert asyncio.run(watch())


def test_the_records_of_a_user_are_bounded(owner: User, key_of: Callable[..., str], monkeypatch: Any) -> None:
    monkeypatch.setattr(records, "MOST", 3)
    monkeypatch.setattr(records, "MOST_OF_USER", 5)
    first, second = (ApiKey.objects.get(prefix=key_of(owner).split("_")[1]) for _ in range(2))

    def keep(key: ApiKey, task_id: UUID, **changes: Any) -> None:
        fields = {"ends": ["9"], "sampler": "3", "client_id": "", "graph": {"3": {}}, "prefix": "p"} | changes
        records.keep(key, PromptRecord(task_id, **fields))

    ids = [uuid7() for _ in range(4)]
    for one in (*ids, ids[-1]):
        keep(first, one)
    assert [one.task_id for one in records.newest(first)] == ids[:0:-1]
    assert records.find(ids[0]) is None
    large = {"graph": {"3": "x" * records.MOST_BYTES}, "prefix": "p" * 200_000, "ends": ["n" * 200] * 200}
    for _ in range(3):
        keep(second, uuid7(), **large)
    client = redis_clients.text_client()
    names = list(client.scan_iter("gx:comfy:prompt:*"))
    assert len(names) == 5
    assert [one.task_id for one in records.newest(first)] == ids[:1:-1]
    assert all(client.strlen(name) <= records.MOST_BYTES for name in names)
    [*_, shown] = records.newest(second)
    assert (shown.graph, len(shown.prefix)) == ({}, records.MOST_NAME)


def test_uploads_of_one_name_at_once_leave_one_file(client: Client, owner: User) -> None:
    def upload(number: int) -> int:
        try:
            status: int = send(client, picture_bytes((64, 64)) + bytes([number])).status_code
            return status
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(upload, range(24))) == {200}
    kept = uploads.find(owner, "in.png")
    assert kept is not None
    assert len(kept.read()) == len(picture_bytes((64, 64))) + 1
    assert len(list(get_store("images").list("inputs/"))) == 1


def test_an_upload_is_read_when_it_is_decoded(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a hundred small requests would hold a hundred times 20 MiB while they wait for their turn."""
    send(client, picture_bytes((64, 64)))
    read: list[str] = []

    def noted(kept: Any, _: int | None = None) -> bytes:
        read.append(kept.name)
        return picture_bytes((64, 64))

    monkeypatch.setattr(uploads._KeptUpload, "read", noted)
    encode: dict[str, Any] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
    nodes = {"10": LOAD, "11": encode}
    refused = post(client, graph(nodes, latent_image=["11", 0], denoise=0.5, steps=100_000))
    assert (refused.status_code, read) == (400, [])
    made = post(client, graph(nodes, latent_image=["11", 0], denoise=0.5))
    assert (made.status_code, len(read)) == (200, 1), json.dumps(made.json())
