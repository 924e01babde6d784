"""Raw pictures: lossless, durable before the row says GENERATED, deleted after the upload is verified.

The GPU worker writes one for each image, and then the task does not need the GPU again: a raw picture must survive the
death of the process. Each attempt has its own keys, so that a worker that lost its task cannot overwrite the pictures
of the next attempt.
"""

from uuid import UUID

from storage import keys
from storage.store import get_store


def write_raw(task_id: UUID, index: int, attempt: int, png: bytes) -> str:
    """Store one raw picture (8-bit RGB PNG) durably and return its key. Raises StoreUnavailable."""
    return get_store("raw").put(keys.raw_key(task_id, index, attempt), png, "image/png").key


def read(key: str) -> bytes:
    """Raises ObjectNotFound."""
    return get_store("raw").read(key)


def delete(key: str) -> None:
    get_store("raw").delete(key)


def delete_task(task_id: UUID) -> int:
    """Delete the raw pictures of all attempts of a task; how many there were."""
    store = get_store("raw")
    listed = list(store.list(keys.raw_prefix(task_id)))
    for found in listed:
        store.discard(found.key)
    return len(listed)
