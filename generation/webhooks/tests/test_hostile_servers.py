"""One deadline over everything that a stranger's server can make slow, and bounds of what it may send."""

import asyncio
import socket
import threading
import time
from typing import Any

import pytest

from fixtures.hostile import HostileServer
from imagegenx_site.http import outbound, outbound_connections
from imagegenx_site.http.outbound import HostBusy, OutboundError, get, post

ALLOWED = ("127.0.0.1/32",)
SLOW = ("/silent", "/head", "/body", "/around")
LARGE = ("/interim", "/endless", "/pieces")


@pytest.mark.parametrize("path", SLOW)
async def test_one_deadline_holds_for_head_redirects_and_body(hostile: HostileServer, path: str) -> None:
    began = time.monotonic()
    with pytest.raises(OutboundError):
        await get(hostile.url + path, timeout=0.5, allowed=ALLOWED, max_bytes=1 << 20)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("path", ["/silent", "/head", "/interim"])
async def test_and_for_a_post(hostile: HostileServer, path: str) -> None:
    began = time.monotonic()
    with pytest.raises(OutboundError):
        await post(hostile.url + path, b"{}", {}, timeout=0.5, allowed=ALLOWED)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("path", LARGE)
async def test_what_a_server_sends_is_cut_without_holding_the_event_loop(hostile: HostileServer, path: str) -> None:
    longest = 0.0

    async def measure() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - before)

    measuring = asyncio.create_task(measure())
    began = time.monotonic()
    with pytest.raises(OutboundError):
        await get(hostile.url + path, timeout=10, allowed=ALLOWED, max_bytes=4 << 20)
    assert time.monotonic() - began < 5, "not by the deadline"
    measuring.cancel()
    assert longest < 0.5


async def test_a_name_server_that_does_not_answer_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()

    def slow(*args: Any, **kwargs: Any) -> Any:
        answer.wait(10)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    began = time.monotonic()
    with pytest.raises(OutboundError, match="within"):
        await get("http://slow.example/", timeout=0.3, allowed=(), max_bytes=100)
    assert time.monotonic() - began < 1
    monkeypatch.setattr(outbound_connections, "_lookups", threading.BoundedSemaphore(1))
    waiting = asyncio.create_task(get("http://slow.example/", timeout=5, allowed=(), max_bytes=100))
    await asyncio.sleep(0.05)
    with pytest.raises(OutboundError, match="looked up"):
        await get("http://other.example/", timeout=1, allowed=(), max_bytes=100)
    answer.set()
    with pytest.raises(OutboundError, match="no address"):
        await waiting


async def test_a_host_has_so_many_requests_at_once(hostile: HostileServer, settings: Any) -> None:
    settings.OUTBOUND_PER_HOST = 3
    tries = [post(f"{hostile.url}/silent/{n}", b"", {}, timeout=0.5, allowed=ALLOWED) for n in range(10)]
    ends = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(end) for end in ends].count(HostBusy) == 7
    assert hostile.most_open["/silent"] == 3
    assert await post(f"{hostile.url}/fine", b"", {}, timeout=1, allowed=ALLOWED) == 204
    assert not outbound._hosts._held, "every slot was given back"
