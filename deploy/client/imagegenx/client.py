"""The synchronous client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Union

from typing_extensions import Unpack

from imagegenx import calls
from imagegenx.account import find_account
from imagegenx.bodies import Batch, Price, Task
from imagegenx.catalogue import Catalogue
from imagegenx.connection import Connection, OnEvent
from imagegenx.errors import ImageGenXError, TaskFailed
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

TaskOrId = Union[Task, str]
PAGE = 100  # tasks of a request for the history


class Client(Catalogue):
    """One server and key; AsyncClient is the same with `await`. Use it in a `with`, or close it.

    Without arguments the address and the key come from IMAGEGENX_URL and IMAGEGENX_KEY, or from the file that
    `imagegenx login` wrote. What makes tasks gets an Idempotency-Key: a request that is sent again makes nothing twice.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        retries: Retries | None = None,
        timeout: float = 60.0,
    ) -> None:
        self.account = find_account(url, key)
        self._connection = Connection(self.account, retries or Retries(), timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    # Making

    def generate(self, text: str, **parameters: Unpack[Parameters]) -> Task:
        """A picture from text; the task has only begun."""
        return self._connection.send(calls.generate(text, parameters))

    def img2img(self, text: str, image: Picture, **parameters: Unpack[ImageParameters]) -> Task:
        """A picture that begins with another."""
        return self._connection.send(calls.img2img(text, image, parameters))

    def inpaint(
        self, text: str, image: Picture, mask: Picture | None = None, **parameters: Unpack[InpaintParameters]
    ) -> Task:
        """Repaint the white areas of `mask`, or the rectangle `area`."""
        return self._connection.send(calls.inpaint(text, image, mask, parameters))

    def controlnet(
        self,
        text: str,
        control_image: Picture,
        image: Picture | None = None,
        mask: Picture | None = None,
        **parameters: Unpack[ControlParameters],
    ) -> Task:
        """A picture with the lines, depth or pose of another."""
        return self._connection.send(calls.controlnet(text, control_image, image, mask, parameters))

    def upscale(self, image: Picture, scale: int = 2, **parameters: Unpack[ProcessingParameters]) -> Task:
        """Twice or four times as large."""
        return self._connection.send(calls.upscale(image, scale, parameters))

    def remove_background(self, image: Picture, **parameters: Unpack[ProcessingParameters]) -> Task:
        """On pure white, where the background is plain."""
        return self._connection.send(calls.remove_background(image, parameters))

    def batch(self, texts: Sequence[str], **parameters: Unpack[BatchParameters]) -> Batch:
        """Up to 100 texts."""
        return self._connection.send(calls.batch(texts, parameters))

    def price(self, text: str, **parameters: Unpack[Parameters]) -> Price:
        """What `generate` would cost, without making anything."""
        return self._connection.send(calls.price("generate", {"text": text, **parameters}, {}))

    # Tasks

    def task(self, task_id: str) -> Task:
        """The task as it is now."""
        return self._connection.send(calls.task(task_id))

    def tasks(self, limit: int | None = None, **filters: Unpack[HistoryFilters]) -> Iterator[Task]:
        """The history, newest first, read a page at a time."""
        cursor, left = None, limit
        while left is None or left > 0:
            size = PAGE if left is None else min(left, PAGE)
            page = self._connection.send(calls.history(filters, size, cursor))
            yield from page.items
            left = None if left is None else left - len(page.items)
            cursor = page.next_cursor
            if cursor is None:
                return

    def events(self, task: TaskOrId) -> Iterator[Event]:
        """What happens to a task, until it has ended; over broken connections too."""
        yield from self._connection.events(id_of(task))

    def wait(self, task: TaskOrId, timeout: float | None = None, on_event: OnEvent | None = None) -> Task:
        """The task when it has succeeded. Raises TaskFailed when it ended otherwise, WaitTimeout."""
        return succeeded(self.follow(task, timeout, on_event))

    def follow(self, task: TaskOrId, timeout: float | None = None, on_event: OnEvent | None = None) -> Task:
        """The task when it has ended, in whatever way. Raises WaitTimeout; `timeout` may be passed by 15 s."""
        return self._connection.wait(id_of(task), timeout, on_event)

    def cancel(self, task: TaskOrId) -> Task:
        """End a task. Asking twice, or for an ended task, changes nothing."""
        return self._connection.send(calls.cancel(id_of(task)))

    def retry(self, task: TaskOrId) -> Task:
        """A new task with the same parameters."""
        return self._connection.send(calls.retry(id_of(task)))

    def delete(self, task: TaskOrId) -> None:
        """Delete a task with its text and pictures."""
        self._connection.send(calls.delete(id_of(task)))

    def batch_status(self, batch_id: str) -> Batch:
        """The batch with the status of each task."""
        return self._connection.send(calls.batch_status(batch_id))

    def cancel_batch(self, batch_id: str) -> Batch:
        """End what has not ended."""
        return self._connection.send(calls.cancel_batch(batch_id))

    # Pictures

    def picture(self, task: Task, index: int = 0) -> bytes:
        """A picture's bytes, checked by their hash. Raises HashMismatch, Archived."""
        output = task.outputs[index]
        kept = CheckedBytes(f"{task.task_id}-{index}", output.sha256)
        self._connection.download_output(task.task_id, output, lambda: kept)
        return kept.content

    def thumbnail(self, task: TaskOrId, index: int = 0, variant: str = "thumbnail") -> bytes:
        """A small WebP: thumbnail (256 pixels) or medium (512)."""
        kept = CheckedBytes(f"{id_of(task)}-{variant}")
        self._connection.download(calls.picture(id_of(task), index, variant), lambda: kept)
        return kept.content

    def save(self, task: Task, folder: str | Path, stem: str = "") -> list[Path]:
        """Every picture of a task as a file; one that is there already is not fetched again. `stem` begins the
        names, instead of the text. Raises HashMismatch, Archived.
        """
        paths = []
        for output in task.outputs:
            path = Path(folder) / file_name(task, output, stem)
            self.save_as(task, path, output.index)
            paths.append(path)
        return paths

    def save_as(self, task: Task, path: str | Path, index: int = 0) -> None:
        """One picture as the file `path`."""
        output, path = task.outputs[index], Path(path)
        if path.is_file() and output.sha256 and file_hash(path) == output.sha256:
            return
        self._connection.download_output(task.task_id, output, lambda: CheckedFile(path, output.sha256))

    def zip(self, tasks: Sequence[TaskOrId], path: str | Path) -> Path:
        """The pictures of up to 1000 tasks, or of one batch, as a ZIP file."""
        target = Path(path)
        self._connection.download(calls.archive([id_of(task) for task in tasks]), lambda: CheckedFile(target))
        return target


def id_of(task: TaskOrId) -> str:
    return task if isinstance(task, str) else task.task_id


def succeeded(task: Task) -> Task:
    """The task. Raises TaskFailed."""
    if not task.succeeded:
        raise TaskFailed(task)
    if not task.outputs:
        raise ImageGenXError(f"{task.task_id} succeeded, but its pictures are gone.")
    return task
