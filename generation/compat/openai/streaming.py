"""`stream: true` of OpenAI's Images API: server-sent events of one task, in its words.

    event                    data                                                        when
    {name}.partial_image     b64_json, partial_image_index, size, output_format ...      previews of the running task
    {name}.completed         b64_json, usage, size, output_format ...                    each finished picture
    error                    {"error": {...}} as of an answer                            the task came to another end

`name` is image_generation, image_edit or image_variation. Of each picture come `partial_images` previews at most,
spread over its steps; none where the plan marks pictures or a checker looks at them (generation/tasks/submit.py). A
client that disconnects cancels the task, as without a stream.
"""

import asyncio
import base64
import io
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from PIL import Image as Pillow

from generation.api.envelope import as_api_error
from generation.api.wait import DeferredResponse
from generation.compat.base import CompatView, abandon, give_up, in_base64, succeeded
from generation.tasks import access, watchers
from generation.tasks.models import Task
from generation.tasks.presentation import public_format
from imagegenx_site.deferred import Deferred
from imagegenx_site.errors import ApiError

_log = logging.getLogger(__name__)
_PING_S: Final = 15.0
_OPENAI_QUALITIES: Final = {"standard": "medium", "hd": "high"}  # old words -> those that events may have
_NO_TOKENS: Final = {  # nothing is counted in tokens here; clients need the field
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}


@dataclass(frozen=True)
class StreamRequest:
    """What a stream is to bring: the beginning of its events' names, the request, and previews of each picture."""

    event: str
    asked: Mapping[str, Any]
    partial: int

    @property
    def format(self) -> str:
        return str(self.asked.get("output_format") or "png")

    def body(self, kind: str, b64: str, size: str, form_: str, **more: Any) -> dict[str, Any]:
        """The data of an event."""
        quality = str(self.asked.get("quality") or "auto")
        return {
            "type": f"{self.event}.{kind}",
            "b64_json": b64,
            "created_at": int(time.time()),
            "size": size,
            "quality": _OPENAI_QUALITIES.get(quality, quality),
            "background": "opaque",
            "output_format": form_,
            **more,
        }


class _Events(StreamingHttpResponse):
    """Closed before the task has ended, it cancels the task: its client has gone."""

    def __init__(self, events: AsyncIterator[bytes], left: Callable[[], None]) -> None:
        super().__init__(events, content_type="text/event-stream; charset=utf-8")
        self._left = left
        self["Cache-Control"], self["X-Accel-Buffering"] = "no-store", "no"

    def close(self) -> None:
        super().close()
        self._left()


def response(view: CompatView, task_id: UUID, wish: StreamRequest) -> DeferredResponse:
    """The stream, once the request has gone through the middleware."""
    first = DeferredResponse({"task_id": str(task_id)}, status=202)

    def begin(_: bool, accepted: HttpResponseBase) -> HttpResponseBase:
        stream = _Stream(view, task_id, wish)
        events = _Events(stream.events(), stream.left)
        for name in set(accepted.headers) - set(events.headers) - {"Content-Length"}:
            events[name] = accepted[name]
        return events

    first.deferred = Deferred(_at_once, begin, partial(abandon, task_id))
    return first


async def _at_once() -> bool:
    return True


class _Stream:
    """One client that watches one task."""

    def __init__(self, view: CompatView, task_id: UUID, wish: StreamRequest) -> None:
        self._view, self._task_id, self._wish = view, task_id, wish
        self._ended = False
        self._percent = 0
        self._sent: Counter[int] = Counter()  # previews by the picture's number

    def left(self) -> None:
        """The answer is closed. Runs in a thread."""
        if not self._ended:
            abandon(self._task_id)

    async def events(self) -> AsyncIterator[bytes]:
        """Subscribe first, then look at the row, so that nothing falls between."""
        deadline = time.monotonic() + settings.COMPAT_WAIT_SECONDS
        reader = watchers.reader()
        async with reader.watch(self._task_id) as queue:
            self._ended = bool(await watchers.ends_of([str(self._task_id)]))
            while not self._ended and (left := deadline - time.monotonic()) > 0:
                try:
                    async with asyncio.timeout(min(_PING_S, left)):
                        event = await queue.get()
                except TimeoutError:
                    yield b": ping\n\n"
                    continue
                self._ended = event.is_end
                if data := await self._partial(event):
                    yield _encoded(data)
        for data in await sync_to_async(self._last)():
            yield _encoded(data)

    async def _partial(self, event: watchers.Event) -> dict[str, Any] | None:
        """The preview, if it is time for the next one of its picture."""
        if event.kind == "progress":
            self._percent = event.data["progress"]
        if event.kind != "preview" or not event.data.get("jpeg"):
            return None
        number = event.data["index"]
        sent = self._sent[number]
        if sent >= self._wish.partial or self._percent < 100 * sent / (self._wish.partial + 1):
            return None
        self._sent[number] += 1
        text, size = await sync_to_async(_converted)(event.data["jpeg"], self._wish.format)
        return self._wish.body("partial_image", text, size, self._wish.format, partial_image_index=sent)

    def _last(self) -> list[dict[str, Any]]:
        """The end of the stream: the pictures, or why there are none."""
        try:
            if not self._ended:
                self._ended = True
                give_up(self._task_id)
            task = succeeded(Task.objects.get(pk=self._task_id))
            found = [
                self._wish.body(
                    "completed",
                    in_base64(image),
                    f"{image.width}x{image.height}",
                    public_format(image.format),
                    usage=_NO_TOKENS,
                )
                for image in access.images_of([task.id])[task.id]
            ]
        except Exception as raised:
            error = as_api_error(raised)
            if error is None:
                _log.exception("the pictures of %s can't be sent", self._task_id)
                error = ApiError("Something broke on our side. Try again.")
            return [{"type": "error", **self._view.failure(error)}]
        return found


def _converted(jpeg: str, wanted: str) -> tuple[str, str]:
    """A preview in the format that the client writes into its files, and its size."""
    picture = Pillow.open(io.BytesIO(base64.b64decode(jpeg)))
    size = f"{picture.width}x{picture.height}"
    if wanted == "jpeg":
        return jpeg, size
    written = io.BytesIO()
    picture.save(written, wanted.upper())
    return base64.b64encode(written.getvalue()).decode(), size


def _encoded(data: Mapping[str, Any]) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode(errors="backslashreplace")
