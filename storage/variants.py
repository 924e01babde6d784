"""Stored sizes of an image: the thumbnail comes with the original; the medium one is made when somebody first asks
for it.
"""

from collections.abc import Callable
from uuid import UUID

from redis import Redis

from imagegenx_site.single_flight import coalesce
from storage import keys
from storage.archive import open_or_ask
from storage.errors import NotFound, StorageError
from storage.store import Store, thumbnail_cache

Shrink = Callable[[bytes, int], bytes]
"""From a picture's file and a longest side in pixels: a WebP. Raises ValueError (postprocessing/thumbnails.py)."""
_LOCK_SECONDS = 30.0  # decoding and shrinking of the largest picture takes a few seconds


class UnreadableOriginal(StorageError):
    """The stored original is no picture."""


def ensure_variant(store: Store, original: str, variant: str, redis: Redis, shrink: Shrink) -> str:
    """The key of a variant ("thumbs", "medium") that is there when this returns; made by one process when many ask
    at once.

    Raises NotFound when the original is gone, Archived when it must come back first, UnreadableOriginal.
    """
    key = keys.variant_key(original, variant)

    def ready() -> str | None:
        return key if store.exists(key) else None

    def work() -> str:
        with open_or_ask(store, original, redis) as file:
            data = file.read()
        try:
            small = shrink(data, keys.VARIANT_SIDES[variant])
        except ValueError as error:
            raise UnreadableOriginal(f"The original is no picture: {error}") from error
        store.put(key, small, "image/webp")
        return key

    return coalesce(redis, f"variant:{key}", ready, work, _LOCK_SECONDS)


def thumbnail(store: Store, key: str) -> bytes:
    """The bytes of a thumbnail, from the cache. Raises NotFound, StoreUnavailable."""

    def load() -> bytes | None:
        try:
            return store.read(key)
        except NotFound:
            return None

    found = thumbnail_cache().get(key, load)
    if found is None:
        raise NotFound(key)
    return found


def delete_task(store: Store, task_id: UUID) -> int:
    """Delete every object of a task: originals, also archived and replaced ones, variants, inputs; how many there were.

    Raises StoreUnavailable; it may be repeated.
    """
    listed = [found.key for prefix in keys.task_prefixes(task_id) for found in store.list(prefix)]
    small = [key for key in listed if keys.parse(key).kind == "thumbs"]
    thumbnail_cache().hold(*small)
    for key in listed:
        store.delete(key)
    thumbnail_cache().forget(*small)
    return len(listed)
