"""The files of a task's pictures and the rows that name them: written, listed, cleared away."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final

from generation.tasks.models import Image, Task
from imagegenx_site.ids import image_id
from imagegenx_site.row_statements import insert
from postprocessing.formats import Encoded
from postprocessing.pipeline import ProcessedPicture
from storage import keys, raw
from storage.store import Store, get_store

_AT_ONCE: Final = 8  # files of one process
_OF_THE_FILE: Final = ("key", "thumbnail_key", "format", "content_type", "width", "height", "bytes", "sha256")


def save_images(store: Store, task: Task, files: Mapping[int, ProcessedPicture]) -> None:
    """Write originals and thumbnails under their final keys, then the rows that name them. Durably, in the raw store
    too: a processed task has no way back to this stage, so a file that a power cut took would fail it.
    """
    rows = [_row(task, index, file.original) for index, file in files.items()]
    objects = [(row.key, file.original.data) for row, file in zip(rows, files.values(), strict=True)]
    objects += [(row.thumbnail_key, file.thumbnail.data) for row, file in zip(rows, files.values(), strict=True)]
    in_parallel(lambda item: store.put(*item), objects)
    insert(rows, replacing=_OF_THE_FILE)
    task.saved_images = rows


def _row(task: Task, index: int, encoded: Encoded) -> Image:
    key = keys.image_key(task.id, index, encoded.sha256, encoded.content_type)
    return Image(
        id=image_id(task.id, index),
        task=task,
        index=index,
        seed=task.parameters.seed_of(index),
        key=key,
        thumbnail_key=keys.variant_key(key, "thumbs"),
        format=keys.parse(key).extension,
        content_type=encoded.content_type,
        width=encoded.width,
        height=encoded.height,
        bytes=len(encoded.data),
        sha256=encoded.sha256,
    )


def stored_keys(pictures: Iterable[Image]) -> list[str]:
    """The keys of originals and thumbnails."""
    return [key for image in pictures for key in (image.key, image.thumbnail_key)]


def clear_raw(task: Task, pictures: Iterable[Image], *, but_lossless: bool = False) -> None:
    """Delete what the raw store holds of a task that has ended; `but_lossless` keeps the pictures of the engine."""
    for key in stored_keys(pictures):
        get_store("raw").discard(key)
    if not but_lossless:
        raw.delete_task(task.id)


def in_parallel(work: Callable[[Any], object], items: Sequence[Any]) -> None:
    """Do it for all items side by side: each waits for a disk or a distant store, not for the processor."""
    list(_threads().map(work, items))


@cache
def _threads() -> ThreadPoolExecutor:
    """Of this process, which has been forked before it first needs them."""
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="files")
