"""Stored sizes of an image: the thumbnail is made with the original, the medium variant on the first request."""

from collections.abc import Callable
from uuid import UUID

from redis import Redis

from imagegenx_site.single_flight import coalesce
from storage import keys
from storage.archive import open_or_request
from storage.errors import ObjectNotFound, StorageError
from storage.store import Store, thumbnail_cache

Shrink = Callable[[bytes, int], bytes]
"""From a picture's file and a longest side in pixels: a WebP. Raises ValueError (postprocessing/thumbnails.py)."""
_LOCK_SECONDS = 30.0  # decoding and scaling the largest picture takes a few seconds


class UnreadableOriginal(StorageError):
    """The stored original cannot be decoded."""


def ensure_variant(store: Store, original: str, variant: str, redis: Redis, shrink: Shrink) -> str:
    """The key of a variant ("thumbs", "medium"), which is made if it does not exist, by one process at a time.

    Raises ObjectNotFound when the original is gone, Archived when it must be moved back first, UnreadableOriginal.
    """
    key = keys.variant_key(original, variant)

    def ready() -> str | None:
        return key if store.exists(key) else None

    def work() -> str:
        with open_or_request(store, original, redis) as file:
            data = file.read()
        try:
            small = shrink(data, keys.VARIANT_SIDES[variant])
        except ValueError as error:
            raise UnreadableOriginal(f"The original is no picture: {error}") from error
        store.put(key, small, "image/webp")
        return key

    return coalesce(redis, f"variant:{key}", ready, work, _LOCK_SECONDS)


def thumbnail(store: Store, key: str) -> bytes:
    """The bytes of a thumbnail, from the cache. Raises ObjectNotFound, StoreUnavailable."""

    def load() -> bytes | None:
        try:
            return store.read(key)
        except ObjectNotFound:
            return None

    found = thumbnail_cache().get(key, load)
    if found is None:
        raise ObjectNotFound(key)
    return found


def delete_task(store: Store, task_id: UUID) -> int:
    """Delete every object of a task: originals, also archived and replaced ones, variants, inputs; how many there were.

    Raises StoreUnavailable; it may be repeated.
    """
    listed = [found.key for prefix in keys.task_prefixes(task_id) for found in store.list(prefix)]
    small = [key for key in listed if keys.parse(key).kind == "thumbs"]
    thumbnail_cache().block(*small)
    for key in listed:
        store.delete(key)
    thumbnail_cache().invalidate(*small)
    return len(listed)
