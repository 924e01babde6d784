"""No request to a private address, in whatever spelling, by redirect or by a name server that changes its mind."""

import ipaddress
import socket
from typing import Any

import pytest

from fixtures.rows import Receiver
from imagegenx_site import outbound_connections, outbound_http
from imagegenx_site.outbound_http import OutboundError, get, post

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
    ],
)
async def test_an_invalid_url_is_refused_before_it_is_resolved(url: str) -> None:
    assert outbound_http.url_problem(url)
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
    assert len(receiver.got) == outbound_http.MAX_REDIRECTS + 1


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


def test_ipv4_addresses_embedded_in_ipv6() -> None:
    hidden = ipaddress.ip_address("::ffff:10.0.0.1")
    assert str(outbound_connections.embedded_ipv4(hidden)) == "10.0.0.1"
