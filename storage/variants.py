"""Stored sizes of an image: the thumbnail is made with the original, the medium variant on the first request."""

import functools
import io
from uuid import UUID

from django.conf import settings
from PIL import Image, ImageOps
from redis import Redis

from imagegenx_site import redis_clients
from imagegenx_site.cache import Cache, CacheConfig
from imagegenx_site.single_flight import once
from storage import keys
from storage.archive import open_or_request
from storage.errors import ObjectNotFound, StorageError
from storage.store import Store

_QUALITY = 80
_LOCK_SECONDS = 30.0  # decoding and scaling the largest picture takes a few seconds


class UnreadableOriginal(StorageError):
    """The stored original cannot be decoded."""


def ensure_variant(store: Store, original: str, variant: str, redis: Redis) -> str:
    """The key of a variant ("thumbs", "medium"), which is made if it does not exist, by one process at a time.

    Raises ObjectNotFound when the original is gone, Archived when it must be moved back first, UnreadableOriginal.
    """
    key = keys.variant_key(original, variant)

    def ready() -> str | None:
        return key if store.exists(key) else None

    def work() -> str:
        with open_or_request(store, original, redis) as file:
            data = file.read()
        store.put(key, shrink(data, keys.VARIANT_SIDES[variant]), "image/webp")
        return key

    return once(redis, f"variant:{key}", ready, work, _LOCK_SECONDS)


@functools.cache
def _thumbnails() -> Cache:
    """Bytes of thumbnails by key. A key never gets other bytes, so only a deletion invalidates an entry."""
    return Cache(redis_clients.cache_client(), CacheConfig("thumb", 3600, max_bytes=settings.THUMBNAIL_CACHE_BYTES))


def thumbnail(store: Store, key: str) -> bytes:
    """The bytes of a thumbnail, from the cache. Raises ObjectNotFound, StoreUnavailable."""

    def load() -> bytes | None:
        try:
            return store.read(key)
        except ObjectNotFound:
            return None

    found = _thumbnails().get(key, load)
    if found is None:
        raise ObjectNotFound(key)
    return found


def delete_task(store: Store, task_id: UUID) -> int:
    """Delete every object of a task: originals, also archived and replaced ones, variants, inputs; how many there were.

    Raises StoreUnavailable; it may be repeated.
    """
    listed = [found.key for prefix in keys.task_prefixes(task_id) for found in store.list(prefix)]
    small = [key for key in listed if keys.parse(key).kind == "thumbs"]
    _thumbnails().hold(*small)
    for key in listed:
        store.delete(key)
    _thumbnails().forget(*small)
    return len(listed)


def shrink(data: bytes, side: int) -> bytes:
    """A WebP of the picture with its longer side at most `side` pixels, on white, without metadata."""
    try:
        with Image.open(io.BytesIO(data), formats=("WEBP", "AVIF", "PNG", "JPEG")) as file:
            file.draft("RGB", (side, side))
            picture = ImageOps.exif_transpose(file) or file
            if picture.has_transparency_data:
                layer = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
            picture = picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadableOriginal(f"The original cannot be decoded: {error}") from error
    picture.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=_QUALITY, method=4)
    return buffer.getvalue()
