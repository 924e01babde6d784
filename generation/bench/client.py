"""A small HTTP/1.1 client for load: it keeps connections and spends little, so that the server is what is measured."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Measured:
    """What a run of requests took: latencies in ms, and the whole in s."""

    statuses: dict[int, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """The latency in ms that `share` of the requests stayed below."""
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]

    def __str__(self) -> str:
        latency = ", ".join(f"p{round(share * 100)} {self.percentile(share):.1f} ms" for share in (0.5, 0.99))
        return f"{self.per_second:.0f}/s, {latency}, statuses {self.statuses}"


class Connection:
    """One kept connection."""

    def __init__(self, host: str, port: int, key: str) -> None:
        self._address = (host, port)
        self._fixed = f"Host: {host}:{port}\r\nAuthorization: Bearer {key}\r\n"
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """One request: status and body of its answer."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(*self._address)
        data = json.dumps(body).encode() if body is not None else b""
        head = f"{method} {path} HTTP/1.1\r\n{self._fixed}Content-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        return await self._answer()

    async def _answer(self) -> tuple[int, bytes]:
        assert self._reader is not None
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        length = int(fields.get("content-length", 0))
        return int(lines[0].split(" ")[1]), await self._reader.readexactly(length)

    def close(self) -> None:
        """End the connection."""
        if self._writer is not None:
            self._writer.close()


async def flood(
    address: tuple[str, int], key: str, requests: list[tuple[str, str, Any]], connections: int
) -> tuple[Measured, list[bytes]]:
    """Send all requests over so many connections, each as fast as its answers come."""
    measured, bodies, todo = Measured(), [], iter(requests)

    async def work() -> None:
        connection = Connection(*address, key)
        for method, path, body in todo:
            began = time.perf_counter()
            status, answer = await connection.send(method, path, body)
            measured.latencies.append((time.perf_counter() - began) * 1000)
            measured.statuses[status] = measured.statuses.get(status, 0) + 1
            bodies.append(answer)
        connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(connections)))
    measured.seconds = time.perf_counter() - began
    return measured, bodies
