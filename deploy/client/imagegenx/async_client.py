"""The asynchronous client: the methods of client.py, which says what each does, with `await`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from typing_extensions import Unpack

from imagegenx import calls
from imagegenx.account import find_account
from imagegenx.async_catalogue import AsyncCatalogue
from imagegenx.async_connection import AsyncConnection
from imagegenx.bodies import Batch, Price, Task
from imagegenx.client import PAGE, TaskOrId, id_of, succeeded
from imagegenx.connection import OnEvent
from imagegenx.event_streams import Event
from imagegenx.files import CheckedBytes, CheckedFile, file_hash, file_name
from imagegenx.parameters import (
    BatchParameters,
    ControlParameters,
    HistoryFilters,
    ImageParameters,
    InpaintParameters,
    Parameters,
    Picture,
    ProcessingParameters,
)
from imagegenx.retries import Retries


class AsyncClient(AsyncCatalogue):
    """One server and key. Use it in an `async with`, or close it."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        retries: Retries | None = None,
        timeout: float = 60.0,
    ) -> None:
        self.account = find_account(url, key)
        self._connection = AsyncConnection(self.account, retries or Retries(), timeout)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._connection.close()

    # Making

    async def generate(self, text: str, **parameters: Unpack[Parameters]) -> Task:
        return await self._connection.send(calls.generate(text, parameters))

    async def img2img(self, text: str, image: Picture, **parameters: Unpack[ImageParameters]) -> Task:
        return await self._connection.send(calls.img2img(text, image, parameters))

    async def inpaint(
        self, text: str, image: Picture, mask: Picture | None = None, **parameters: Unpack[InpaintParameters]
    ) -> Task:
        return await self._connection.send(calls.inpaint(text, image, mask, parameters))

    async def controlnet(
        self,
        text: str,
        control_image: Picture,
        image: Picture | None = None,
        mask: Picture | None = None,
        **parameters: Unpack[ControlParameters],
    ) -> Task:
        return await self._connection.send(calls.controlnet(text, control_image, image, mask, parameters))

    async def upscale(self, image: Picture, scale: int = 2, **parameters: Unpack[ProcessingParameters]) -> Task:
        return await self._connection.send(calls.upscale(image, scale, parameters))

    async def remove_background(self, image: Picture, **parameters: Unpack[ProcessingParameters]) -> Task:
        return await self._connection.send(calls.remove_background(image, parameters))

    async def batch(self, texts: Sequence[str], **parameters: Unpack[BatchParameters]) -> Batch:
        return await self._connection.send(calls.batch(texts, parameters))

    async def price(self, text: str, **parameters: Unpack[Parameters]) -> Price:
        return await self._connection.send(calls.price("generate", {"text": text, **parameters}, {}))

    # Tasks

    async def task(self, task_id: str) -> Task:
        return await self._connection.send(calls.task(task_id))

    async def tasks(self, limit: int | None = None, **filters: Unpack[HistoryFilters]) -> AsyncIterator[Task]:
        cursor, left = None, limit
        while left is None or left > 0:
            size = PAGE if left is None else min(left, PAGE)
            page = await self._connection.send(calls.history(filters, size, cursor))
            for task in page.items:
                yield task
            left = None if left is None else left - len(page.items)
            cursor = page.next_cursor
            if cursor is None:
                return

    async def events(self, task: TaskOrId) -> AsyncIterator[Event]:
        async for event in self._connection.events(id_of(task)):
            yield event

    async def wait(self, task: TaskOrId, timeout: float | None = None, on_event: OnEvent | None = None) -> Task:
        return succeeded(await self.follow(task, timeout, on_event))

    async def follow(self, task: TaskOrId, timeout: float | None = None, on_event: OnEvent | None = None) -> Task:
        return await self._connection.wait(id_of(task), timeout, on_event)

    async def cancel(self, task: TaskOrId) -> Task:
        return await self._connection.send(calls.cancel(id_of(task)))

    async def retry(self, task: TaskOrId) -> Task:
        return await self._connection.send(calls.retry(id_of(task)))

    async def delete(self, task: TaskOrId) -> None:
        await self._connection.send(calls.delete(id_of(task)))

    async def batch_status(self, batch_id: str) -> Batch:
        return await self._connection.send(calls.batch_status(batch_id))

    async def cancel_batch(self, batch_id: str) -> Batch:
        return await self._connection.send(calls.cancel_batch(batch_id))

    # Pictures

    async def picture(self, task: Task, index: int = 0) -> bytes:
        output = task.outputs[index]
        kept = CheckedBytes(f"{task.task_id}-{index}", output.sha256)
        await self._connection.download_output(task.task_id, output, lambda: kept)
        return kept.content

    async def thumbnail(self, task: TaskOrId, index: int = 0, variant: str = "thumbnail") -> bytes:
        kept = CheckedBytes(f"{id_of(task)}-{variant}")
        await self._connection.download(calls.picture(id_of(task), index, variant), lambda: kept)
        return kept.content

    async def save(self, task: Task, folder: str | Path, stem: str = "") -> list[Path]:
        paths = []
        for output in task.outputs:
            path = Path(folder) / file_name(task, output, stem)
            await self.save_as(task, path, output.index)
            paths.append(path)
        return paths

    async def save_as(self, task: Task, path: str | Path, index: int = 0) -> None:
        output, path = task.outputs[index], Path(path)
        if path.is_file() and output.sha256 and file_hash(path) == output.sha256:
            return
        await self._connection.download_output(task.task_id, output, lambda: CheckedFile(path, output.sha256))

    async def zip(self, tasks: Sequence[TaskOrId], path: str | Path) -> Path:
        target = Path(path)
        await self._connection.download(calls.archive([id_of(task) for task in tasks]), lambda: CheckedFile(target))
        return target
