"""A real HTTP proxy between a client and an object store that does harm on request.

    proxy.plan.extend(["reset", "error", "pass"])    # faults of the next requests, in order; afterwards `proxy.default`

pass     forward as it is
slow     forward, the answer 512 bytes at a time with pauses
error    answer 500 without forwarding
reset    drop the connection (RST) after the request's head
half     forward half of the request's body, then drop both connections
swallow  read the whole request, forward nothing, answer 200
cut      forward the request, pass half of the answer's body on, then drop the connection
"""

import contextlib
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_PIECE = 64 << 10


@dataclass
class FaultProxy:
    upstream: int
    port: int = 0
    default: str = "pass"
    plan: deque[str] = field(default_factory=deque)
    requests: list[tuple[str, str]] = field(default_factory=list)  # first line and what was done with it

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            incoming = _Message(client)
            while incoming.read_head():
                fault = self.plan.popleft() if self.plan else self.default
                self.requests.append((incoming.head.split(b"\r\n")[0].decode(), fault))
                if not self._handle(client, incoming, fault):
                    return

    def _handle(self, client: socket.socket, incoming: "_Message", fault: str) -> bool:
        """One request; False when the connection is over."""
        if fault == "reset":
            return _drop(client)
        if b"\r\nexpect:" in incoming.head.lower():
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault in ("error", "swallow"):
            incoming.read_body(incoming.length)
            status = b"500 Internal Server Error" if fault == "error" else b"200 OK"
            client.sendall(b"HTTP/1.1 " + status + b'\r\nETag: "0"\r\nContent-Length: 0\r\n\r\n')
            return True
        with socket.create_connection(("127.0.0.1", self.upstream), 30) as server:
            server.sendall(incoming.head_without(b"expect", b"connection") + b"Connection: close\r\n\r\n")
            wanted = incoming.length // 2 if fault == "half" else incoming.length
            server.sendall(incoming.read_body(wanted))
            if fault == "half":
                return _drop(server) or _drop(client)
            return self._answer(client, server, incoming, fault)

    def _answer(self, client: socket.socket, server: socket.socket, incoming: "_Message", fault: str) -> bool:
        answer = _Message(server)
        answer.read_head()
        chunked = b"\r\ntransfer-encoding: chunked" in answer.head.lower()  # its end is the end of the connection
        length = 0 if incoming.head.startswith(b"HEAD ") else 1 << 62 if chunked else answer.length
        after = b"Connection: close\r\n\r\n" if chunked else b"Connection: keep-alive\r\n\r\n"
        client.sendall(answer.head_without(b"connection") + after)
        left = length // 2 if fault == "cut" else length
        step = 512 if fault == "slow" else _PIECE
        while left > 0:
            piece = answer.read_some(min(step, left))
            if not piece:
                return False if chunked else _drop(client)
            client.sendall(piece)
            left -= len(piece)
            if fault == "slow":
                time.sleep(0.01)
        return _drop(client) if fault == "cut" and length else True


class _Message:
    """One HTTP message after another from a socket. Bodies are of the length that the head names."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._ahead = b""
        self.head = b""
        self.length = 0

    def read_head(self) -> bool:
        while b"\r\n\r\n" not in self._ahead:
            piece = self._source.recv(_PIECE)
            if not piece:
                return False
            self._ahead += piece
        self.head, _, self._ahead = self._ahead.partition(b"\r\n\r\n")
        named = [line for line in self.head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        self.length = int(named[0].partition(b":")[2]) if named else 0
        return True

    def read_body(self, size: int) -> bytes:
        while len(self._ahead) < size:
            piece = self._source.recv(_PIECE)
            if not piece:
                break
            self._ahead += piece
        body, self._ahead = self._ahead[:size], self._ahead[size:]
        return body

    def read_some(self, most: int) -> bytes:
        """What is there, up to `most` bytes; nothing at the end of the connection."""
        if not self._ahead:
            self._ahead = self._source.recv(_PIECE)
        return self.read_body(min(most, len(self._ahead)))

    def head_without(self, *names: bytes) -> bytes:
        lines = self.head.split(b"\r\n")
        return b"\r\n".join(line for line in lines if line.partition(b":")[0].lower() not in names) + b"\r\n"


def _drop(connection: socket.socket) -> bool:
    """Close with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    return False


@contextmanager
def fault_proxy(upstream: int) -> Iterator[FaultProxy]:
    """A running proxy before the server at port `upstream`."""
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = FaultProxy(upstream, listener.getsockname()[1])

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=proxy.serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield proxy
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
