"""Bodies of requests, bounded before anything of them is kept: by the declared length, by what comes, and by time.

What an address takes is its urlconf's to say (`body_rules` in ROOT_URLCONF): so many bytes from anybody, and more from
whom the rules admit by the request's head. This stands before everything else of the web process, also before the
static files.

    too long       413 at once, by Content-Length; else when the bound is passed
    too slow       408: a body has START_S and a second more for each MIN_RATE bytes that have come
    too many       429: uploads of one holder (a user; an address that nobody knows) at once
"""

import asyncio
import io
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Final, Protocol

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch

from imagegenx_site.errors import ApiError, TooLarge, TooManyRequests, TooSlow
from imagegenx_site.slots import Claim, Slots, SlotsFull

START_S: Final = 15.0
MIN_RATE: Final = 16 << 10  # bytes/s of a body after START_S
LINGER_S: Final = 1.0  # how long a refused client may still send, so that it reads why; LINGER_BYTES at most
LINGER_BYTES: Final = 2 << 20

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
InThread = Callable[..., Awaitable[Any]]  # calls a function with its arguments in a web thread


@dataclass(frozen=True)
class BodyRule:
    """`free` bytes from anybody; up to `most` from a request that `admit` (called in a thread) lets in: it answers who
    holds the upload and how many such uploads that holder may have, or raises an ApiError.
    """

    free: int
    most: int = 0
    admit: Callable[[HttpRequest], Claim] | None = None


class BodyRules(Protocol):
    """What a urlconf says about bodies."""

    def rule(self, match: ResolverMatch | None, method: str) -> BodyRule: ...

    def stranger(self, request: HttpRequest) -> str:
        """The address that counts for a request which nobody was asked about yet."""
        ...

    def refusal(self, request: HttpRequest, match: ResolverMatch | None, error: ApiError) -> HttpResponseBase: ...


@cache
def _rules() -> BodyRules:
    rules: BodyRules = import_module(settings.ROOT_URLCONF).body_rules
    return rules


class BoundedBodies:
    """ASGI middleware, for HTTP."""

    def __init__(self, application: Any, in_thread: InThread) -> None:
        self._application = application
        self.in_thread, self.uploads, self.readers = in_thread, Slots(), Slots()

    async def __call__(self, scope: Any, receive: Receive, send: Send, match: ResolverMatch | None) -> None:
        """Serve one request whose view is known."""
        rule = _rules().rule(match, scope["method"])
        body = _Body(scope, receive, rule, self)
        try:
            body.check_declared()
            await body.admit_if_large()
            await self._application(scope, body.receive, send)
        except _Refused as refused:
            request = ASGIRequest(scope, io.BytesIO())
            await _answer(_rules().refusal(request, match, refused.error), receive, send)
        finally:
            body.end()


class _Refused(Exception):
    """Passes through everything between the reader of a body and the middleware; `error` is the answer."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error)
        self.error = error


class _Body:
    """The body of one request as it comes."""

    def __init__(self, scope: Any, receive: Receive, rule: BodyRule, bounds: BoundedBodies) -> None:
        self._scope, self._receive, self._rule = scope, receive, rule
        self._in_thread, self._readers, self._uploads = bounds.in_thread, bounds.readers, bounds.uploads
        self._declared = _declared(scope)
        self._bound = rule.free
        self._read, self._began, self._complete = 0, 0.0, False
        self._reader: Claim | None = None
        self._upload: Claim | None = None

    def check_declared(self) -> None:
        """Raises _Refused for what is too long for anybody."""
        if self._declared > max(self._rule.free, self._rule.most):
            raise _Refused(TooLarge("The body is larger than this server takes."))

    async def admit_if_large(self) -> None:
        """Raises _Refused when more is declared than anybody may send, and this sender may not."""
        if self._declared > self._rule.free:
            await self._admit()

    async def receive(self) -> dict[str, Any]:
        """The next message for the application. Raises _Refused."""
        if self._complete:
            return await self._receive()
        message = await self._next()
        if message["type"] != "http.request":
            return message
        self._read += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._read > self._bound and self._bound == self._rule.free:
            await self._admit()
        if self._read > self._bound:
            raise _Refused(TooLarge("The body is larger than this server takes."))
        if self._complete:
            self._end_reading()
        return message

    def end(self) -> None:
        """The request has been answered."""
        self._end_reading()
        if self._upload:
            self._uploads.give_back(self._upload)
            self._upload = None

    async def _next(self) -> dict[str, Any]:
        if not self._began:
            self._began = time.monotonic()
        elif self._reader is None and self._upload is None:  # it did not come in one piece
            self._take_reader()
        left = START_S + self._read / MIN_RATE - (time.monotonic() - self._began)
        try:
            async with asyncio.timeout(left):
                return await self._receive()
        except TimeoutError:
            raise _Refused(TooSlow("The body comes too slowly.")) from None

    def _take_reader(self) -> None:
        address = _rules().stranger(ASGIRequest(self._scope, io.BytesIO()))
        claim = (address, settings.UPLOADS_PER_ADDRESS)
        try:
            self._readers.take(claim)
        except SlotsFull:
            raise _Refused(_too_many()) from None
        self._reader = claim

    def _end_reading(self) -> None:
        if self._reader:
            self._readers.give_back(self._reader)
            self._reader = None

    async def _admit(self) -> None:
        """The sender is asked for by the head alone. Raises _Refused."""
        if self._rule.admit is None:
            raise _Refused(TooLarge("The body is larger than this server takes."))
        try:
            request = ASGIRequest(self._scope, io.BytesIO())
            claim = await self._in_thread(self._rule.admit, request)
            self._uploads.take(claim)
        except SlotsFull:
            raise _Refused(_too_many()) from None
        except ApiError as error:
            raise _Refused(error) from None
        self._upload, self._bound = claim, self._rule.most
        self._end_reading()


def _too_many() -> ApiError:
    return TooManyRequests("Too many uploads are under way at once. Wait for some of them.", retry_after=2)


def _declared(scope: Any) -> int:
    """Content-Length; 0 where there is none. The parser has refused what is no number."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 20 else 1 << 62
    return 0


async def _answer(response: Any, receive: Receive, send: Send) -> None:
    """Send a refusal and close the connection: the rest of the body is not read, but for what comes at once, as a
    client that is still sending would not see the answer of a connection that is reset.
    """
    headers = [(name.lower().encode(), value.encode("latin1")) for name, value in response.items()]
    headers += [(b"content-length", str(len(response.content)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content, "more_body": True})
    left = LINGER_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while left > 0 and (message := await receive())["type"] == "http.request" and message.get("more_body"):
                left -= len(message["body"])
    await send({"type": "http.response.body", "body": b"", "more_body": False})
