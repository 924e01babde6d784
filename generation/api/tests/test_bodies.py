"""Heads and bodies over real sockets: bounded by length and time on every address, with and without a key."""

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import uvicorn

from fixtures.rows import picture_bytes
from generation.accounts.models import User
from imagegenx_site import web_server
from imagegenx_site.web import bodies

GENERATE = "/api/v1/image/generate"


def connect(live: str) -> socket.socket:
    host, _, port = live.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=15)


def head(path: str, length: int | None, *more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: localhost", "content-type: application/json", *more]
    lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(connection: socket.socket) -> tuple[int, Any]:
    """Status and body of the answer, read to the end of the connection."""
    data = b""
    while piece := connection.recv(1 << 16):
        data += piece
    start, _, body = data.partition(b"\r\n\r\n")
    return int(start.split(b" ")[1]), json.loads(body) if body else None


ADDRESSES = [
    "/healthz",
    "/readyz",
    "/",
    "/api/v1/keys",
    "/api/v1/image/generate",
    "/api/v1/lora/upload",
    "/admin/login/",
    "/oauth/token/",
    "/accounts/login/",
    "/static/x.js",
    "/no/such",
    "/files/a",
    "/metrics",
    "/v1/images/edits",
]


@pytest.mark.parametrize("path", ADDRESSES)
def test_a_stranger_sends_no_large_body_anywhere(live: str, path: str) -> None:
    with connect(live) as connection:
        connection.sendall(head(path, 10**9))
        status, body = answer(connection)
    assert status in (401, 413)
    assert "error" in body or body["code"] == status
    with connect(live) as connection:  # nor without saying so
        connection.sendall(head(path, None))
        sent = 0
        try:
            while sent < 256 << 20:
                connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                sent += 0x10000
        except OSError:
            pass
        assert sent < 64 << 20, "the server stopped to read; sockets hold some megabytes"


def test_a_refusal_is_read_by_a_client_that_is_still_sending(live: str) -> None:
    response = httpx.post(live + "/healthz", content=b"x" * (1 << 20), trust_env=False)
    assert response.status_code == 413
    assert response.json()["data"]["errors"][0]["code"] == "too_large"
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/api/v1/image/img2img", "/v1/images/edits"])
def test_a_key_may_send_pictures(
    live: str, owner: User, key_of: Callable[..., str], able_model: Any, path: str
) -> None:
    headers = {"authorization": f"Bearer {key_of(owner)}"}
    noise = picture_bytes((64, 64)) + bytes(2 << 20)
    response = httpx.post(live + path, files={"image": noise}, data={"x": "1"}, headers=headers, trust_env=False)
    assert response.status_code == 400, "read, and then refused for what it says"
    wrong = httpx.post(live + path, files={"image": noise}, headers={"x-api-key": "igx_a_b"}, trust_env=False)
    assert wrong.status_code == 401


def test_a_user_has_so_many_uploads_at_once(live: str, owner: User, key_of: Callable[..., str], settings: Any) -> None:
    settings.UPLOADS_PER_USER = 2
    key = f"x-api-key: {key_of(owner)}"
    held = [connect(live) for _ in range(2)]
    for connection in held:
        connection.sendall(head(GENERATE, 2 << 20, key) + b"x" * (1 << 18))
    time.sleep(0.3)
    with connect(live) as third:
        third.sendall(head(GENERATE, 2 << 20, key))
        assert answer(third)[0] == 429
    for connection in held:
        connection.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        response = httpx.post(live + GENERATE, content=b"x" * (2 << 20), headers={"x-api-key": key.split()[1]})
        if response.status_code != 429:
            break
    assert response.status_code == 400


def test_an_address_has_so_many_slow_bodies_at_once(live: str, settings: Any) -> None:
    settings.UPLOADS_PER_ADDRESS = 2
    held = [connect(live) for _ in range(3)]
    for connection in held:
        connection.sendall(head(GENERATE, 1000) + b"{")
        time.sleep(0.1)
        connection.sendall(b" ")
    refused = [connection for connection in held if _closed(connection)]
    assert len(refused) == 1
    assert httpx.post(live + GENERATE, json={}, trust_env=False).status_code == 401, "whole bodies are no matter"


def _closed(connection: socket.socket) -> bool:
    connection.settimeout(1.5)
    try:
        return answer(connection)[0] == 429
    except TimeoutError:
        return False


def test_a_body_that_drips_is_ended(live: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "START_S", 0.5)
    with connect(live) as connection:
        connection.sendall(head(GENERATE, 1000) + b"{")
        began = time.monotonic()
        status, body = answer(connection)
    assert (status, body["data"]["errors"][0]["code"]) == (408, "too_slow")
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nx: ", b"\r\n"])
def test_a_head_that_does_not_end_is_ended(live: str, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "HEAD_S", 0.5)
    connections = [connect(live) for _ in range(50)]
    for connection in connections:
        connection.sendall(sent)
    began = time.monotonic()
    for connection in connections:
        while connection.recv(1000):
            pass
    assert time.monotonic() - began < 4


def test_nor_does_a_second_head_wait_for_ever(live: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "HEAD_S", 0.5)
    for second in (b"\r\n", b"GET /"):
        with connect(live) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert b"200 OK" in connection.recv(10_000)
            connection.sendall(second)
            began = time.monotonic()
            while connection.recv(1000):
                pass
            assert time.monotonic() - began < 3


def test_requests_on_one_connection_are_answered_whatever_their_length(live: str) -> None:
    with httpx.Client(base_url=live, trust_env=False) as client:
        for size in (1, 10_000, 200_000, 900_000, 1):
            assert client.post(GENERATE, content=b"x" * size).status_code == 401
            assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("piece_by_piece", [True, False])
def test_trailers_are_no_headers(live: str, owner: User, key_of: Callable[..., str], piece_by_piece: bool) -> None:
    """A proxy takes away what a client writes into X-Forwarded-For; it does not look behind the body."""
    body = b'1b\r\n{"text":"x","dry_run":true}\r\n0\r\n'
    trailers = b"authorization: Bearer wrong\r\nx-forwarded-for: 203.0.113.9\r\n\r\n"
    with connect(live) as connection:
        sent = head(GENERATE, None, f"authorization: Bearer {key_of(owner)}", "connection: close") + body
        for piece in (sent, trailers) if piece_by_piece else (sent + trailers,):
            connection.sendall(piece)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


def test_trailers_without_end_are_cut(live: str, owner: User, key_of: Callable[..., str]) -> None:
    with connect(live) as connection:
        connection.sendall(head(GENERATE, None, f"authorization: Bearer {key_of(owner)}") + b"1\r\n{\r\n0\r\n")
        with pytest.raises(OSError):
            connection.sendall(b"a: b\r\n" * 10_000_000)


def test_a_client_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "READ_S", 0.5)
    ended = threading.Event()

    async def pour(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
        message = await receive()
        while message["type"] != "http.disconnect":
            message = await receive()
        ended.set()

    config = uvicorn.Config(pour, port=0, log_level="error", lifespan="off", http=web_server.BoundedProtocol)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    with socket.create_connection(server.servers[0].sockets[0].getsockname()) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert ended.wait(10), "the connection was dropped"
    server.should_exit = server.force_exit = True
    thread.join(10)
