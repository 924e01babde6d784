"""The one HTTP client for addresses that users give us (webhooks, picture URLs). It never reaches private addresses.

The host is resolved once, every address that comes back is checked, and the connection goes to the address that was
checked: a second answer of the name server can't lead elsewhere. Proxies of the environment are ignored. A POST follows
no redirect; a GET follows MAX_REDIRECTS, each checked like the first address.
"""

import ipaddress
import socket
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import httpcore
import httpx
from django.conf import settings

MAX_URL: Final = 2000  # characters
MAX_REDIRECTS: Final = 3
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")  # IPv4 addresses written as IPv6 (RFC 6052)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class OutboundError(Exception):
    """The request was refused, or did not get an answer; the message says why."""


def url_problem(url: str) -> str | None:
    """What is wrong with the form of a URL, or None. Addresses are checked when it is used."""
    if len(url) > MAX_URL:
        return f"longer than {MAX_URL} characters"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "not an http:// or https:// address"
    if parts.username or parts.password:
        return "a user name or password in the address"
    return "port 0" if port == 0 else None


def is_own_address(url: str, host: str) -> bool:
    """Whether the address leads to this server as the client calls it (`host` is its Host header), or as PUBLIC_URL
    says.
    """
    own = {host.lower(), urlsplit(settings.PUBLIC_URL).netloc.lower()} - {""}
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}[parts.scheme]
    name = (parts.hostname or "").lower()
    return f"{name}:{parts.port or default}" in own or (name in own and (parts.port or default) == default)


def post(url: str, body: bytes, headers: dict[str, str], *, timeout: float, allowed: Sequence[str]) -> int:
    """POST once and give the status code. `timeout` in s for the whole of connecting, sending and each read.

    `allowed` are the CIDR blocks that may be reached although private.
    Raises OutboundError when the address is refused or no answer came.
    """
    fault = url_problem(url)
    if fault:
        raise OutboundError(f"{url[:200]}: {fault}")
    try:
        with _client(timeout, allowed) as client, client.stream("POST", url, content=body, headers=headers) as answer:
            return answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL, httpcore.NetworkError, httpcore.TimeoutException) as error:
        raise OutboundError(f"{type(error).__name__}: {error}") from error


def get(url: str, *, timeout: float, allowed: Sequence[str], max_bytes: int) -> bytes:
    """GET the body. `timeout` in s for all of it, redirects included.

    Raises OutboundError when an address is refused, the answer is not 200, longer than `max_bytes`, or too slow.
    """
    deadline = time.monotonic() + timeout
    with _client(timeout, allowed) as client:
        for _ in range(MAX_REDIRECTS + 1):
            fault = url_problem(url)
            if fault:
                raise OutboundError(f"{url[:200]}: {fault}")
            try:
                with client.stream("GET", url, headers={"accept-encoding": "identity"}) as answer:
                    if not answer.has_redirect_location:
                        return _body(answer, deadline, max_bytes)
                    url = urljoin(url, answer.headers["location"])
            except (httpx.HTTPError, httpx.InvalidURL, httpcore.NetworkError, httpcore.TimeoutException) as error:
                raise OutboundError(f"{type(error).__name__}: {error}") from error
    raise OutboundError(f"more than {MAX_REDIRECTS} redirects")


def _body(answer: httpx.Response, deadline: float, max_bytes: int) -> bytes:
    """The raw body: an encoding that unpacks (gzip bombs) is not undone, and nothing beyond the bounds is read."""
    if answer.status_code != 200:
        raise OutboundError(f"the server answered {answer.status_code}")
    body = bytearray()
    for chunk in answer.iter_raw():
        body += chunk
        if len(body) > max_bytes:
            raise OutboundError(f"the answer is longer than {max_bytes} bytes")
        if time.monotonic() > deadline:
            raise OutboundError("the answer took too long")
    return bytes(body)


def _client(timeout: float, allowed: Sequence[str]) -> httpx.Client:
    transport = httpx.HTTPTransport(trust_env=False, retries=0)
    transport._pool = httpcore.ConnectionPool(  # httpx takes no network backend (docs/decisions/0006)
        ssl_context=httpx.create_ssl_context(trust_env=False),
        network_backend=_PinnedBackend(allowed),
        max_connections=1,
    )
    return httpx.Client(transport=transport, timeout=timeout, follow_redirects=False, trust_env=False)


class _PinnedBackend(httpcore.SyncBackend):
    """Connects to the address that was checked, never to a name."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = [ipaddress.ip_network(block) for block in allowed]

    def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        return super().connect_tcp(self._resolve(host, port), port, *args, **kwargs)

    def _resolve(self, host: str, port: int) -> str:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} has no address") from error
        addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
        refused = [address for address in addresses if not self._may_reach(address)]
        if refused or not addresses:
            raise httpcore.ConnectError(f"{host} is a private address; an operator can allow it in PRIVATE_CALLBACKS")
        return str(addresses[0])

    def _may_reach(self, address: Address) -> bool:
        plain = embedded_ipv4(address)
        if any(block.version == plain.version and plain in block for block in self._allowed):
            return True
        return plain.is_global and not plain.is_multicast and not plain.is_reserved


def embedded_ipv4(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one (mapped, 6to4, NAT64), else the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address.sixtofour:
            return address.sixtofour
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address
