"""No request to a private address, in whatever spelling, by redirect or by a name server that changes its mind."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from fixtures.rows import Receiver
from generation.accounts.models import User
from generation.tasks.models import Task
from generation.webhooks.models import WebhookEndpoint
from imagegenx_site.http import outbound, public_addresses
from imagegenx_site.http.outbound import OutboundError, get, post

LIMITS: dict[str, Any] = {"timeout": 5, "max_bytes": 10_000}


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fc00::1]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
    ],
)
async def test_a_private_address_is_refused_in_every_spelling(host: str, receiver: Receiver) -> None:
    port = receiver.url.rpartition(":")[2]
    with pytest.raises(OutboundError):
        await get(f"http://{host}:{port}/", allowed=(), **LIMITS)
    with pytest.raises(OutboundError):
        await post(f"http://{host}:{port}/", b"", {}, timeout=5, allowed=())
    assert receiver.got == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "http:///x",
        "http://user@127.0.0.1/",
        "http://x:0/",
        "http://x:99999/",
        "http://[::1",
        "//x",
        "",
        "http://x/" + "a" * 2000,
        "http://x.example/a\r\nHost: y",
        "http://x.exa\tmple/",
        "http://x.example/a b",
        "http://x.example/\u00a0",
        "http://x.example/\u200b",
        "http://x.example/\x7f",
    ],
)
async def test_an_invalid_url_is_refused_before_it_is_resolved(url: str) -> None:
    assert outbound.url_problem(url)
    with pytest.raises(OutboundError):
        await get(url, allowed=("0.0.0.0/0",), **LIMITS)


async def test_only_allowed_private_networks_can_be_reached(receiver: Receiver) -> None:
    receiver.answers = [(200, {}, b"x")]
    assert await get(receiver.url, allowed=("127.0.0.1/32",), **LIMITS) == b"x"
    with pytest.raises(OutboundError):
        await get(receiver.url, allowed=("10.0.0.0/8",), **LIMITS)


async def test_a_redirect_is_checked_like_the_first_address(receiver: Receiver) -> None:
    port = receiver.url.rpartition(":")[2]
    receiver.answers = [(302, {"location": f"http://127.0.0.2:{port}/secret"}, b"")]
    with pytest.raises(OutboundError, match="private address"):
        await get(receiver.url, allowed=("127.0.0.1/32",), **LIMITS)
    receiver.answers = [(302, {"location": "file:///etc/passwd"}, b"")]
    with pytest.raises(OutboundError):
        await get(receiver.url, allowed=("127.0.0.1/32",), **LIMITS)
    assert [path for path, *_ in receiver.got] == ["/", "/"]


async def test_endless_redirects_are_stopped(receiver: Receiver) -> None:
    receiver.answers = [(302, {"location": "/again"}, b"")]
    with pytest.raises(OutboundError, match="redirects"):
        await get(receiver.url, allowed=("127.0.0.1/32",), **LIMITS)
    assert len(receiver.got) == outbound.MAX_REDIRECTS + 1


async def test_a_name_that_changes_its_address_is_resolved_once(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: public when checked, private when used."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def answer(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "rebind.example":
            return real(host, port, *args, **kwargs)
        asked.append(host)
        address = "192.0.2.1" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    port = receiver.url.rpartition(":")[2]
    with pytest.raises(OutboundError):
        await get(f"http://rebind.example:{port}/", allowed=("192.0.2.0/24",), timeout=1, max_bytes=100)
    assert (asked, receiver.got) == (["rebind.example"], [])


async def test_a_name_with_one_private_address_among_others_is_refused(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("8.8.8.8", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    with pytest.raises(OutboundError, match="private address"):
        await get("http://mixed.example/", allowed=(), **LIMITS)


async def test_a_long_answer_is_cut_and_a_compressed_one_is_not_decompressed(receiver: Receiver) -> None:
    receiver.answers = [(200, {}, b"x" * 20_000)]
    with pytest.raises(OutboundError, match="longer"):
        await get(receiver.url, allowed=("127.0.0.1/32",), **LIMITS)
    receiver.answers = [(200, {"content-encoding": "gzip"}, b"not unpacked")]
    assert await get(receiver.url, allowed=("127.0.0.1/32",), **LIMITS) == b"not unpacked"


async def test_proxies_of_the_environment_are_ignored(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", receiver.url)
    monkeypatch.setenv("ALL_PROXY", receiver.url)
    with pytest.raises(OutboundError):
        await get("http://192.168.1.1/", allowed=(), **LIMITS)
    assert receiver.got == []


@pytest.mark.parametrize(
    "text",
    [
        "192.0.0.8",
        "192.0.0.9",
        "192.0.2.1",
        "192.31.196.1",
        "192.52.193.1",
        "192.88.99.1",
        "192.175.48.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "fec0::1",
        "3fff::1",
        "2001:db8::1",
        "2001::1",
        "2001:10::1",
        "2001:20::1",
        "2001:2::1",
        "2001:4:112::1",
        "2620:4f:8000::1",
        "100::1",
        "5f00::1",
        "ff02::1",
        "::2",
        "::7f00:1",
        "::ffff:192.0.0.8",
        "::ffff:0:127.0.0.1",
        "64:ff9b::192.88.99.1",
        "64:ff9b:1::8.8.8.8",
        "2002:c000:8::1",
        "2001:0:808:808::807f:fefe",
        "2606:4700::5efe:10.0.0.1",
        "2606:4700::200:5efe:127.0.0.1",
    ],
)
async def test_every_special_purpose_range_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also inside of an address that looks public."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: [(0, 0, 0, "", (text, 80))])
    with pytest.raises(OutboundError, match="private address"):
        await get("http://name.example/", allowed=(), **LIMITS)


@pytest.mark.parametrize("text", ["8.8.8.8", "191.255.255.255", "2606:4700::1111", "64:ff9b::8.8.8.8"])
def test_public_addresses_are_public(text: str) -> None:
    assert public_addresses.is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    ("hidden", "plain"),
    [
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2002:a00:1::", "10.0.0.1"),
        ("64:ff9b::a00:1", "10.0.0.1"),
        ("2001:0:808:808::f5ff:fffe", "10.0.0.1"),
        ("fe80::5efe:10.0.0.1", "10.0.0.1"),
        ("2606:4700::1", "2606:4700::1"),
    ],
)
def test_ipv4_addresses_embedded_in_ipv6(hidden: str, plain: str) -> None:
    assert str(public_addresses.embedded_ipv4(ipaddress.ip_address(hidden))) == plain


OWN = [
    "localhost",
    "LOCALHOST.",
    "0x7f.1",
    "127.1",
    "2130706433",
    "127.0.0.1.",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "0.0.0.0",
]


@pytest.mark.parametrize("name", ["10.1.2.3", "192.168.0.9", "0x7f.1", "localhost", "[::1]", "169.254.169.254"])
def test_a_private_address_that_is_written_out_is_refused_when_it_is_given(settings: Any, name: str) -> None:
    settings.PRIVATE_CALLBACKS = []
    fault = outbound.callback_problem(f"http://{name}:9999/hook", "images.example")
    assert fault == "it is a private address; an operator can allow it in PRIVATE_CALLBACKS"
    settings.PRIVATE_CALLBACKS = ["10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.168.0.0/24", "::1/128"]
    assert outbound.callback_problem(f"http://{name}:9999/hook", "images.example") is None


@pytest.mark.parametrize("address", ["https://shop.example/hook", "http://8.8.8.8/", "https://[2606:4700::1]/"])
def test_public_addresses_and_names_are_taken(settings: Any, address: str) -> None:
    settings.PRIVATE_CALLBACKS = []
    assert outbound.callback_problem(address, "images.example") is None


@pytest.mark.parametrize("name", [*OWN, "a.localhost", "127.9.9.9", "①②⑦.0.0.1", socket.gethostname()])
@pytest.mark.parametrize("host", ["127.0.0.1:8130", "localhost:8130", "[::1]:8130", "images.example:8130"])
def test_this_server_is_known_in_every_spelling(name: str, host: str) -> None:
    assert outbound.is_own_address(f"http://{name}:8130/x", host)
    assert not outbound.is_own_address(f"http://{name}:8139/x", host)


@pytest.mark.parametrize("name", ["images.example", "IMAGES.example."])
def test_and_by_the_name_that_clients_call(name: str, settings: Any) -> None:
    assert outbound.is_own_address(f"https://{name}/x", "images.example")
    settings.PUBLIC_URL = "https://images.example"
    assert outbound.is_own_address(f"https://{name}/x", "127.0.0.1:8000")
    assert not outbound.is_own_address("https://images.example.org/x", "127.0.0.1:8000")


@pytest.mark.parametrize(
    "url",
    [
        "http://x.example/a\r\nHost: y",
        "http://x.exa\tmple/",
        "http://localhost:8000/x",
        "http://0x7f.1:8000/",
        "http://127.0.0.1.:8000/x",
        "http://[::ffff:127.0.0.1]:8000/x",
    ],
)
def test_neither_a_webhook_nor_a_callback_is_taken(client_of: Callable[..., Client], owner: User, url: str) -> None:
    client = client_of(owner)
    for path, body in (
        ("/api/v1/webhooks", {"url": url}),
        ("/api/v1/image/generate", {"text": "a star", "callback_url": url}),
    ):
        answer = client.post(path, body, content_type="application/json")
        assert answer.status_code == 400, path
    assert not WebhookEndpoint.objects.exclude(url="").exists()
    assert not Task.objects.exists()


@pytest.mark.parametrize("url", ["http://xn--/", "http://xn--a/"])
async def test_a_name_that_is_none_is_a_fault_of_the_address(url: str) -> None:
    assert outbound.url_problem(url)
    with pytest.raises(OutboundError):
        await get(url, allowed=(), **LIMITS)


@pytest.mark.parametrize("location", ["http://xn--/", "http://[", "http://[::1", "//", "http://a:b/", "http://\xff/"])
async def test_a_redirect_to_what_is_no_address_is_an_error_of_the_server(location: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode("latin-1"))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(OutboundError):
            await get(f"http://127.0.0.1:{port}/", allowed=("127.0.0.1/32",), **LIMITS)
