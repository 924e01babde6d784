"""A server that speaks the API's protocol without making pictures, and does harm on request.

`faults[part of a path]` is a list of what the next requests there meet: a status (also with headers), CUT (the
connection breaks in the middle of the answer), or DAMAGED (wrong bytes).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from typing import Any

CUT, DAMAGED = "cut", "damaged"


class StandInApi:
    """An ASGI application. Tasks end at once, except those whose text begins with `hold`."""

    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}
        self.by_key: dict[str, str] = {}
        self.replays = 0
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.faults: dict[str, list[Any]] = defaultdict(list)
        self.loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.loop = asyncio.get_running_loop()
        body = await self._body(receive)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        path = scope["path"]
        self.requests.append((scope["method"], path, headers))
        fault = self._fault(path)
        if isinstance(fault, tuple):
            status, more = fault
            refusal: Any = (
                []
                if status == 200
                else {"code": status, "message": "refused", "data": {"errors": [], "request_id": "r1"}}
            )
            return await answer(send, status, json.dumps(refusal).encode(), more)
        parts = path.strip("/").split("/")
        if path.endswith("/events"):
            return await self._events(parts[-2], headers, send, fault == CUT)
        if parts[0] == "files" or path.endswith("/image"):
            return await self._file(parts[1] if parts[0] == "files" else parts[-2], send, fault)
        if scope["method"] == "POST" and path.endswith("/cancel"):
            self.tasks[parts[-2]]["status"] = "canceled"
            return await answer(send, 200, envelope(self.tasks[parts[-2]]))
        if scope["method"] == "POST":
            return await self._submit(scope, headers, body, send, fault == CUT)
        if parts[-1] == "plans":
            return await answer(send, 200, envelope({"items": [], "current": "free"}))
        return await answer(send, 200, envelope(self.tasks[parts[-1]]))

    async def _body(self, receive: Any) -> bytes:
        pieces, more = [], True
        while more:
            message = await receive()
            pieces.append(message.get("body", b""))
            more = message.get("more_body", False)
        return b"".join(pieces)

    def _fault(self, path: str) -> Any:
        for part, waiting in self.faults.items():
            if part in path and waiting:
                fault = waiting.pop(0)
                return (fault, {}) if isinstance(fault, int) else fault
        return None

    async def _submit(self, scope: Any, headers: dict[str, str], body: bytes, send: Any, cut: bool) -> None:
        key = headers.get("idempotency-key", "")
        task_id = self.by_key.get(key)
        if task_id is None:
            task_id = f"img{len(self.tasks):032x}"
            base = f"{scope['scheme']}://{headers['host']}"
            self.tasks[task_id] = self.task(task_id, json.loads(body)["text"], base)
            if key:
                self.by_key[key] = task_id
        else:
            self.replays += 1
        if cut:
            raise ConnectionAbortedError("on purpose")
        await answer(send, 202, envelope(self.tasks[task_id]))

    def task(self, task_id: str, text: str, base: str = "") -> dict[str, Any]:
        content = picture_of(task_id)
        output = {
            "index": 0,
            "url": f"{base}/files/{task_id}",
            "format": "png",
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        held = text.startswith("hold")
        return {
            "task_id": task_id,
            "status": "running" if held else "failed" if text.startswith("fail") else "succeeded",
            "kind": "text2img",
            "progress": 0,
            "input": {"text": text},
            "outputs": [] if held else [output],
            "error": {"code": "broken", "message": "as asked"} if text.startswith("fail") else None,
            "warnings": [],
            "kept": output,
        }

    def finish(self, task_id: str) -> None:
        """End a task that was held."""
        self.tasks[task_id].update(status="succeeded", outputs=[self.tasks[task_id]["kept"]])

    async def _file(self, task_id: str, send: Any, fault: Any) -> None:
        content = picture_of(task_id)
        if fault == DAMAGED:
            content = b"X" + content[1:]
        if fault == CUT:
            await start(send, 200, {"content-length": str(len(content))})
            await send({"type": "http.response.body", "body": content[:5], "more_body": True})
            raise ConnectionAbortedError("on purpose")
        await answer(send, 200, content, {"content-type": "image/png"})

    async def _events(self, task_id: str, headers: dict[str, str], send: Any, cut: bool) -> None:
        """Progress 20 and 40, where a cut stream breaks; taken up after `Last-Event-ID` it goes on with 60."""
        await start(send, 200, {"content-type": "text/event-stream"})
        task, last = self.tasks[task_id], headers.get("last-event-id")
        if last is None:
            await send(event("task", task, "1-0"))
        for progress in range(20, 100, 20):
            if last is None or progress > int(last.split("-")[0]):
                await send(event("progress", {"progress": progress}, f"{progress}-0"))
            if cut and progress == 40:
                raise ConnectionAbortedError("on purpose")
        while self.tasks[task_id]["status"] == "running":
            await asyncio.sleep(0.02)
        await send(event("task", self.tasks[task_id], ""))
        await send(event("end", {"status": self.tasks[task_id]["status"]}, ""))
        await send({"type": "http.response.body", "body": b""})


def picture_of(task_id: str) -> bytes:
    """The bytes that stand for a task's picture."""
    return f"picture of {task_id}".encode() * 20


def envelope(data: Any) -> bytes:
    return json.dumps({"code": 200, "message": "success", "data": data}).encode()


def event(kind: str, data: Any, entry_id: str) -> dict[str, Any]:
    name = f"id: {entry_id}\n" if entry_id else ""
    text = f"{name}event: {kind}\ndata: {json.dumps(data)}\n\n"
    return {"type": "http.response.body", "body": text.encode(), "more_body": True}


async def start(send: Any, status: int, headers: dict[str, str]) -> None:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})


async def answer(send: Any, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    await start(send, status, {"content-length": str(len(body)), **(headers or {})})
    await send({"type": "http.response.body", "body": body})
