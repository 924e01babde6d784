"""The raw pictures: lossless, durable before the row says GENERATED, deleted after the upload is verified.

The GPU worker writes one for each image; from then on the task never needs the GPU again, so a raw picture must
survive whatever kills the process. An attempt writes its own keys: a worker that lost its task cannot overwrite what
its successor wrote.
"""

from uuid import UUID

from storage import keys
from storage.store import get_store


def write_raw(task_id: UUID, index: int, attempt: int, png: bytes) -> str:
    """Store one raw picture (8-bit RGB PNG) and return its key when it is safe. Raises StoreUnavailable."""
    return get_store("raw").put(keys.raw_key(task_id, index, attempt), png, "image/png").key


def read(key: str) -> bytes:
    """The PNG's bytes. Raises NotFound."""
    return get_store("raw").read(key)


def delete(key: str) -> None:
    get_store("raw").delete(key)


def delete_task(task_id: UUID) -> int:
    """Delete every raw picture of a task, of all its attempts; how many there were."""
    store = get_store("raw")
    listed = list(store.list(keys.raw_prefix(task_id)))
    for found in listed:
        store.delete(found.key)
    return len(listed)
