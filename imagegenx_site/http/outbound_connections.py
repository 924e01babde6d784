"""Connections to hosts that users name, for outbound.py: the address is checked and then used, whatever the name
server says later; a name is looked up without holding the event loop or a thread of a pool; what a server sends is
counted, so that it costs neither memory nor the event loop's time.
"""

import asyncio
import ipaddress
import socket
import ssl
import threading
from collections.abc import Sequence
from typing import Any, Final

import httpcore

from imagegenx_site.http.public_addresses import may_reach

MAX_LOOKUPS: Final = 64  # names looked up at once; a name server that does not answer holds a thread for up to 30 s
_READ: Final = 16 << 10  # bytes taken at once: parsing them holds the event loop for milliseconds at most
_lookups = threading.BoundedSemaphore(MAX_LOOKUPS)

Found = list[tuple[Any, ...]]


class Budget:
    """Bytes that a server may still send."""

    def __init__(self, most: int) -> None:
        self.left = most

    def spend(self, count: int) -> None:
        """Raises httpcore.RemoteProtocolError when it was too much."""
        self.left -= count
        if self.left < 0:
            raise httpcore.RemoteProtocolError("the server sends too much")


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the address that was checked, never to a name. Its streams spend `budget`."""

    def __init__(self, allowed: Sequence[str], budget: Budget) -> None:
        self._allowed = allowed
        self._budget = budget
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        address = await self._resolve(host, port)
        return _CountedStream(await self._backend.connect_tcp(address, port, *args, **kwargs), self._budget)

    async def _resolve(self, host: str, port: int) -> str:
        try:
            found = await _looked_up(host, port)
        except (socket.gaierror, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} has no address") from error
        addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
        refused = [address for address in addresses if not may_reach(address, self._allowed)]
        if refused or not addresses:
            raise httpcore.ConnectError(f"{host} is a private address; an operator can allow it in PRIVATE_CALLBACKS")
        return str(addresses[0])


class _CountedStream(httpcore.AsyncNetworkStream):
    def __init__(self, stream: httpcore.AsyncNetworkStream, budget: Budget) -> None:
        self._stream = stream
        self._budget = budget

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._stream.read(min(max_bytes, _READ), timeout)
        self._budget.spend(len(data))
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        inner = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        return _CountedStream(inner, self._budget)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


async def _looked_up(host: str, port: int) -> Found:
    """What `getaddrinfo` says, from a thread of its own: it can't be stopped, and a caller with a deadline must not
    wait for it. Raises socket.gaierror, UnicodeError, httpcore.ConnectError when too many names are being looked up.
    """
    slots = _lookups
    if not slots.acquire(blocking=False):
        raise httpcore.ConnectError("too many names are being looked up; try again")
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Found] = loop.create_future()

    def look_up() -> None:
        try:
            found: Found | Exception = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            found = error
        finally:
            slots.release()
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, answer, found)

    threading.Thread(target=look_up, name="name-lookup", daemon=True).start()
    return await answer


def _settle(answer: "asyncio.Future[Found]", found: Found | Exception) -> None:
    if answer.done():  # given up meanwhile
        return
    if isinstance(found, Exception):
        answer.set_exception(found)
    else:
        answer.set_result(found)
