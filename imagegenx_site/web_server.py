"""The web process: uvicorn with bounds on the head of a request, on clients that do not read, and on websockets.

`python -m imagegenx_site.web_server` takes its arguments.

uvicorn's httptools protocol takes a request line and headers of any length into memory, waits for them for ever, and
keeps an answer for ever that its client does not take. A proxy in front bounds these; this does where there is none
(docs/decisions/0006). Bodies: web/bodies.py.
"""

import asyncio
import os
import sys
import tempfile
from typing import Any, Final

import uvicorn
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import Server

from imagegenx_site import heartbeat, log_lines
from imagegenx_site.heartbeat import Heartbeat

MAX_HEAD: Final = 64 << 10  # bytes of a request's head
HEAD_S: Final = 10.0  # s from a connection, or the first byte of a later request, to the end of the head
READ_S: Final = 30.0  # s in which a client must take READ_BYTES of an answer that is ready
READ_BYTES: Final = 32 << 10
SOCKET_BYTES: Final = 256 << 10  # that a websocket's client may send in all: ours only listen, and answer pings
SWITCH_S: Final = (
    0.001  # a thread that computes lets others go on: one's request does not wait 5 ms behind each other's
)
_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """Closes the connection on a head over MAX_HEAD bytes or HEAD_S seconds, and when its client takes less than
    READ_BYTES of an answer in READ_S. A head that came in one piece is counted by its headers; trailers count with it.
    """

    _head = 0  # bytes since the head began
    _reading_head = True
    _between = False  # a whole request has come, and nothing of the next
    _head_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ws_protocol_class = BoundedSocket

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        _stop(self._head_timer)
        _stop(self._read_timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        between = self._between
        super().data_received(data)
        if self._reading_head:
            self._head += len(data)
            self._check()
        if (self._reading_head or (between and self._between)) and self._head_timer is None:
            self._expect_head()  # empty lines between two requests count as the beginning of a head

    def on_message_begin(self) -> None:
        self._head, self._reading_head, self._between = 0, True, False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._between = True
        super().on_message_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        """What follows a chunked body in the form of headers is read over: a proxy has not looked at it, so it must
        not stand for its X-Forwarded-For.
        """
        if self._reading_head:
            super().on_header(name, value)
            return
        self._head += len(name) + len(value) + 4
        if not self.transport.is_closing():
            self._check()

    def on_headers_complete(self) -> None:
        self._reading_head = False
        _stop(self._head_timer)
        self._head_timer = None
        self._head = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if self._check():
            super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        _stop(self._read_timer)
        self._read_timer = None
        super().resume_writing()

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S, self._head_is_late)

    def _head_is_late(self) -> None:
        """A head that comes while the request before it is answered waits for that."""
        self._head_timer = None
        if self.transport.is_closing() or self.transport.get_protocol() is not self:  # it is a websocket's now
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._expect_head()
            return
        self.transport.write(_TOO_SLOW)
        self.transport.close()

    def _expect_reading(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._read_timer = self.loop.call_later(READ_S, self._check_reading, left)

    def _check_reading(self, before: int) -> None:
        """The connection is dropped with what its client did not take."""
        self._read_timer = None
        if self.transport.is_closing() or before - self.transport.get_write_buffer_size() < READ_BYTES:
            self.transport.abort()
        else:
            self._expect_reading()

    def _check(self) -> bool:
        """Whether the head is within the bound; else the answer is sent and the connection ends."""
        if self._head <= MAX_HEAD:
            return True
        self.transport.write(_TOO_LARGE)
        self.transport.close()
        return False


class BoundedSocket(WebSocketsSansIOProtocol):
    """Drops a websocket whose client sends more than SOCKET_BYTES. Nothing is unpacked: 16 KiB can stand for 16 MiB.

    uvicorn keeps messages of 16 MiB, in parts too, and answers pings into a buffer without a bound.
    """

    _received = 0

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        config.ws_max_size, config.ws_per_message_deflate = SOCKET_BYTES, False
        super().__init__(config, *args, **kwargs)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > SOCKET_BYTES + MAX_HEAD:  # the handshake comes here, too
            self.transport.abort()
            return
        super().data_received(data)


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class BeatingServer(Server):
    """Gives signs of life from the event loop."""

    _heartbeat: Heartbeat | None = None

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; whether to stop."""
        if counter % 10 == 0:
            self._heartbeat = self._heartbeat or heartbeat.of_this_process()
            if self._heartbeat is not None:  # in a thread, because it may wait for Redis
                await asyncio.get_running_loop().run_in_executor(None, self._heartbeat.beat)
        return await super().on_tick(counter)

    async def shutdown(self, *args: Any, **kwargs: Any) -> None:
        """Stopped in order."""
        await super().shutdown(*args, **kwargs)
        if self._heartbeat is not None:
            self._heartbeat.leave()


# uvicorn's command line takes only its own names and classes; its log lines are the product's.
uvicorn.config.LOGGING_CONFIG.clear()
uvicorn.config.LOGGING_CONFIG.update({"version": 1, "disable_existing_loggers": False, "incremental": True})
HTTP_PROTOCOLS["auto"] = "imagegenx_site.web_server:BoundedProtocol"
for name in ("uvicorn.main", "uvicorn.supervisors.multiprocess"):
    sys.modules[name].Server = BeatingServer  # type: ignore[attr-defined]

if __name__ == "__main__":
    log_lines.configure()
    sys.setswitchinterval(SWITCH_S)
    if "--workers" in sys.argv and not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        # Without a folder for all of them each scrape would hear another one's counters.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="imagegenx-metrics-")
    uvicorn.main()
