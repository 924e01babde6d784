"""The one HTTP client for addresses that users give us (webhooks, picture URLs). It never reaches private addresses.

The host is resolved once, every address that comes back is checked, and the connection goes to the address that was
checked (outbound_connections.py): a second answer of the name server can't lead elsewhere. Proxies of the environment
are ignored. A POST follows no redirect; a GET follows MAX_REDIRECTS, each checked like the first address.

A stranger's server may take as long as it likes, so the caller waits on an event loop, never in a thread that others
need; one deadline holds for everything together (name, connection, TLS, head, redirects, body); and one host has
OUTBOUND_PER_HOST requests of this process at once.
"""

import asyncio
import contextlib
import functools
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpcore
import httpx
from django.conf import settings

from imagegenx_site.http.outbound_connections import Budget, PinnedBackend
from imagegenx_site.http.public_addresses import may_reach, same_machine, written_address
from imagegenx_site.slots import Slots, SlotsFull

MAX_URL: Final = 2000  # characters
MAX_REDIRECTS: Final = 3
MAX_HEAD: Final = 32 << 10  # bytes of an answer's head, interim answers (1xx) included
_FEW_PIECES: Final = 200  # a body may come in so many pieces of any size; after that 1 KiB each on average
_hosts = Slots()
_PORTS: Final = {"http": 80, "https": 443}


class OutboundError(Exception):
    """The request was refused, or did not get an answer; the message says why."""


class HostBusy(OutboundError):
    """Not sent: as many requests to its host as may be are under way."""


def url_problem(url: str) -> str | None:
    """What is wrong with the form of a URL, or None. Addresses are checked when it is used."""
    if len(url) > MAX_URL:
        return f"longer than {MAX_URL} characters"
    if any(sign.isspace() or not sign.isprintable() for sign in url):  # Python's parser would drop some of them
        return "white space or a control character in the address"
    try:
        parts = urlsplit(url)
        port, name = parts.port, httpx.URL(url).host  # as the request will read it: `xn--` alone is none
    except (ValueError, httpx.InvalidURL) as error:
        return str(error)
    if parts.scheme not in ("http", "https") or not name:
        return "not an http:// or https:// address"
    if parts.username or parts.password:
        return "a user name or password in the address"
    return "port 0" if port == 0 else None


def callback_problem(url: str, host: str) -> str | None:
    """What is wrong with an address to call back, or None: also what can be said without asking a name server, so that
    nobody waits for calls that never come. `host` is the Host header of who asks.
    """
    fault = url_problem(url)
    if fault:
        return fault
    if is_own_address(url, host):
        return "it is this server's own"
    name = urlsplit(url).hostname or ""
    address = written_address("127.0.0.1" if same_machine(name) == "localhost" else name)
    if address is not None and not may_reach(address, settings.PRIVATE_CALLBACKS):
        return "it is a private address; an operator can allow it in PRIVATE_CALLBACKS"
    return None


def is_own_address(url: str, host: str) -> bool:
    """Whether the address, however it is spelled, leads to this server as the client calls it (`host` is its Host
    header), as this machine does, or as PUBLIC_URL says.
    """
    called, public = urlsplit(f"//{host}"), urlsplit(settings.PUBLIC_URL)
    own = {(same_machine(called.hostname or ""), port) for port in ([called.port] if called.port else [80, 443])}
    if public.hostname:
        own.add((same_machine(public.hostname), public.port or _PORTS[public.scheme]))
    own |= {("localhost", port) for _, port in own} | {("localhost", settings.WEB_PORT)}
    parts = urlsplit(url)
    return (same_machine(parts.hostname or ""), parts.port or _PORTS[parts.scheme]) in own


async def post(url: str, body: bytes, headers: dict[str, str], *, timeout: float, allowed: Sequence[str]) -> int:
    """POST once and give the status code. `timeout` in s for everything together.

    `allowed` are the CIDR blocks that may be reached although private.
    Raises OutboundError when the address is refused or no answer came in time, HostBusy.
    """
    async with _attempt(timeout, allowed) as (client, _):
        _check(url)
        with _at_host(url):
            async with client.stream("POST", url, content=body, headers=headers) as answer:
                return answer.status_code


async def ask(
    url: str, body: bytes, headers: dict[str, str], *, timeout: float, allowed: Sequence[str], max_bytes: int
) -> bytes:
    """POST once and give the body of the answer. Raises as `get` does."""
    async with _attempt(timeout, allowed) as (client, budget):
        _check(url)
        with _at_host(url):
            budget.left = 2 * max_bytes + MAX_HEAD
            plain = {"accept-encoding": "identity"}
            async with client.stream("POST", url, content=body, headers=headers | plain) as answer:
                return await _body(answer, max_bytes)


async def get(url: str, *, timeout: float, allowed: Sequence[str], max_bytes: int) -> bytes:
    """GET the body. `timeout` in s for all of it, redirects included.

    Raises OutboundError when an address is refused, the answer is not 200, longer than `max_bytes`, or too slow;
    HostBusy.
    """
    async with _attempt(timeout, allowed) as (client, budget):
        for _ in range(MAX_REDIRECTS + 1):
            _check(url)
            with _at_host(url):
                budget.left = MAX_HEAD
                async with client.stream("GET", url, headers={"accept-encoding": "identity"}) as answer:
                    if not answer.has_redirect_location:
                        budget.left = 2 * max_bytes + MAX_HEAD  # with the marks of a chunked body
                        return await _body(answer, max_bytes)
                    url = urljoin(url, answer.headers["location"])
        raise OutboundError(f"more than {MAX_REDIRECTS} redirects")


async def _body(answer: httpx.Response, max_bytes: int) -> bytes:
    """The raw body: an encoding that unpacks (gzip bombs) is not undone, and nothing beyond the bounds is read. Each
    piece costs the event loop as much as a kibibyte of it, so a body in millions of pieces is refused.
    """
    if answer.status_code != 200:
        raise OutboundError(f"the server answered {answer.status_code}")
    body, pieces = bytearray(), 0
    async for piece in answer.aiter_raw():
        body += piece
        pieces += 1
        if len(body) > max_bytes:
            raise OutboundError(f"the answer is longer than {max_bytes} bytes")
        if pieces > _FEW_PIECES + (len(body) >> 10):
            raise OutboundError("the answer comes in too many pieces")
    return bytes(body)


def _check(url: str) -> None:
    fault = url_problem(url)
    if fault:
        raise OutboundError(f"{url[:200]}: {fault}")


@contextlib.contextmanager
def _at_host(url: str) -> Iterator[None]:
    host = (urlsplit(url).hostname or "").lower().rstrip(".")
    try:
        with _hosts.hold((host, settings.OUTBOUND_PER_HOST)):
            yield
    except SlotsFull as error:
        raise HostBusy(f"{settings.OUTBOUND_PER_HOST} requests to {host} are under way") from error


@contextlib.asynccontextmanager
async def _attempt(timeout: float, allowed: Sequence[str]) -> AsyncIterator[tuple[httpx.AsyncClient, Budget]]:
    """A client with one connection, and what a server may send. Whatever goes wrong is an OutboundError."""
    budget = Budget(MAX_HEAD)
    transport = httpx.AsyncHTTPTransport(verify=_tls(), trust_env=False, retries=0)
    transport._pool = httpcore.AsyncConnectionPool(  # httpx takes no network backend (docs/decisions/0006)
        ssl_context=_tls(), network_backend=PinnedBackend(allowed, budget), max_connections=1
    )
    client = httpx.AsyncClient(transport=transport, timeout=None, follow_redirects=False, trust_env=False)
    try:
        async with asyncio.timeout(timeout), client:
            yield client, budget
    except TimeoutError as error:
        raise OutboundError(f"no whole answer within {timeout:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL, httpcore.NetworkError, httpcore.TimeoutException) as error:
        raise OutboundError(f"{type(error).__name__}: {error}") from error
    except (httpcore.ProtocolError, ValueError) as error:  # ValueError: addresses that can't be read, of redirects too
        raise OutboundError(str(error)) from error


@functools.cache
def _tls() -> ssl.SSLContext:
    """Made once: to load the certificates takes as long as a request."""
    return httpx.create_ssl_context(trust_env=False)
