"""Server-sent events of a task, and where a stream is taken up again after it broke."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import httpx
from httpx_sse import ServerSentEvent

from imagegenx.bodies import Task, read

# The server sends a comment every 15 s: after three that did not come the connection is taken for dead.
SILENCE_S = 45.0


@dataclass(frozen=True)
class Event:
    """`kind`: task, status, progress, preview, enlarging, updated or end. `task`: of the kind task."""

    kind: str
    data: dict[str, Any]
    task: Task | None = None


class StreamPosition:
    """How far a task's events have been read."""

    def __init__(self) -> None:
        self.last_id = ""
        self.ended = False

    def headers(self) -> dict[str, str]:
        """For the next connection: what has been read does not come again."""
        return {"Last-Event-ID": self.last_id} if self.last_id else {}

    def take(self, message: ServerSentEvent) -> Event:
        """The message as an event."""
        self.last_id = message.id or self.last_id
        self.ended = self.ended or message.event == "end"
        data = json.loads(message.data) if message.data else {}
        return Event(message.event, data, read(Task, data) if message.event == "task" else None)


def read_timeout(deadline: float | None) -> httpx.Timeout:
    """Of one connection."""
    left = SILENCE_S if deadline is None else max(0.1, deadline - time.monotonic())
    return httpx.Timeout(min(SILENCE_S, left), connect=10.0)
