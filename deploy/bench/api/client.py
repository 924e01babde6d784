"""A small HTTP/1.1 load generator with persistent connections, cheap enough not to distort the measurement."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Address = tuple[str, int]


@dataclass
class Measured:
    """`latencies` in ms; `seconds` of the whole run, and this client's own CPU time, in s."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    seconds: float = 0.0
    client_cpu: float = 0.0

    @property
    def count(self) -> int:
        return len(self.latencies)

    @property
    def per_second(self) -> float:
        return self.count / self.seconds

    def percentile(self, share: float) -> float:
        """The latency in ms that `share` of the requests stayed below."""
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def encoded(method: str, path: str, key: str, body: Any = None, headers: str = "") -> bytes:
    """A request in wire format; `headers`: lines that end in CRLF."""
    data = json.dumps(body).encode() if body is not None else b""
    kind = f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n" if data else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n{kind}{headers}\r\n"
    return head.encode() + data


class _Connection(asyncio.Protocol):
    """Sends the next request when the last one is answered."""

    def __init__(self, requests: Iterator[bytes], measured: Measured, keep: bool) -> None:
        self._requests, self._measured, self._keep = requests, measured, keep
        self._buffer = bytearray()
        self._began = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + length:
            return
        self._measured.latencies.append((time.perf_counter() - self._began) * 1000)
        self._measured.statuses[int(head[9:12])] += 1
        if self._keep:
            self._measured.bodies.append(bytes(self._buffer[end + 4 : end + 4 + length]))
        self._buffer.clear()
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set_result(None)


async def flood(address: Address, requests: Sequence[bytes], connections: int, *, keep: bool = False) -> Measured:
    """Send all requests over `connections` connections, one after the other on each. `keep`: keep the bodies."""
    measured, todo = Measured(), iter(requests)
    loop = asyncio.get_running_loop()
    began, cpu = time.perf_counter(), time.process_time()
    made = [
        (await loop.create_connection(lambda: _Connection(todo, measured, keep), *address))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(connection.ended for connection in made))
    measured.seconds, measured.client_cpu = time.perf_counter() - began, time.process_time() - cpu
    return measured
