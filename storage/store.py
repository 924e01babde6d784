"""Stores: put (verified), open, exists, delete, url, list, for the aliases "images" and "raw" of `settings.STORAGES`.

images = get_store("images")
stored = images.put(key, data)      # in the store, or in the spool after three tries: stored.spooled
images.url(key, 3600)               # works in both cases

The one file of storage that reads the settings (but for signing.py, which needs Django's SECRET_KEY).
"""

import functools
import hashlib
import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from django.conf import settings
from django.core.files.storage import Storage, storages

from imagegenx_site import redis_clients
from imagegenx_site.cache import Cache, CacheConfig
from imagegenx_site.config import SpoolConfig
from storage import keys
from storage.driver_choice import driver_for
from storage.drivers import FILES_PATH, DiskDriver, Driver, Listed, signed_path
from storage.errors import ObjectNotFound, StoreUnavailable, VerifyFailed
from storage.loras import BucketLoras, FolderLoras, LoraFiles
from storage.metrics import STORE
from storage.spool import Spool

_log = logging.getLogger(__name__)
TRIES = 3
_FIRST_PAUSE = 0.1  # s before the second try; each later pause is three times as long


@dataclass(frozen=True)
class Stored:
    """A stored or spooled object. `size` in bytes, `sha256` in hex."""

    key: str
    size: int
    sha256: str
    content_type: str
    spooled: bool = False


class Store:
    """Keys are checked against the scheme of storage/keys.py; every method raises only StorageError."""

    def __init__(self, name: str, driver: Driver) -> None:
        self.name = name
        self.driver = driver

    def put(self, key: str, data: bytes, content_type: str = "") -> Stored:
        """Store `data` and verify it. May be repeated with the same key and bytes."""
        content_type = content_type or keys.content_type(key)
        self.driver.write(keys.check(key), data, content_type)
        try:
            self.driver.prove(key, data)
        except ObjectNotFound as error:
            raise VerifyFailed(f"{key!r}: the store accepted it and does not have it.") from error
        return Stored(key, len(data), hashlib.sha256(data).hexdigest(), content_type)

    def take(self, key: str, source: "Store") -> None:
        """The object that `source` has under the same key: as a second name for its file where both are folders of one
        file system, else as a copy, verified. Raises ObjectNotFound.
        """
        if not self.driver.link(keys.check(key), source.driver):
            self.put(key, source.read(key))

    def open(self, key: str) -> BinaryIO:
        """A binary file, to be closed by the caller. Raises ObjectNotFound."""
        return self.driver.open(keys.check(key))

    def copy(self, source: str, target: str) -> None:
        """Copy and verify, within the store if it can. Raises ObjectNotFound; NeedsRestore for a source that must be
        restored first.
        """
        try:
            self.driver.copy(keys.check(source), keys.check(target), keys.content_type(target))
        except ObjectNotFound as error:
            if error.key == target:
                raise VerifyFailed(f"{target!r}: the store accepted the copy and does not have it.") from error
            raise

    def restore(self, key: str) -> timedelta | None:
        """None when the object can be read now; otherwise how long its restore takes from the first request, which this
        call makes if none is running. Raises ObjectNotFound.
        """
        return self.driver.restore(keys.check(key))

    def read(self, key: str) -> bytes:
        with self.open(key) as file:
            return file.read()

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except ObjectNotFound:
            return False
        return True

    def size(self, key: str) -> int:
        """In bytes. Raises ObjectNotFound."""
        return self.driver.size(keys.check(key))

    def delete(self, key: str) -> None:
        """Does nothing when the object does not exist."""
        self.driver.delete(keys.check(key))

    def discard(self, key: str) -> None:
        """`delete` for what may come back after a power cut: housekeeping finds it then."""
        self.driver.discard(keys.check(key))

    def url(self, key: str, seconds: int) -> str:
        """A URL that anybody can read for `seconds` from now; for stores on local disk a path of this server."""
        return self.driver.url(keys.check(key), seconds)

    def list(self, prefix: str) -> Iterator[Listed]:
        """Objects whose keys start with `prefix`, in the order of their keys on disk and S3."""
        return self.driver.list(prefix)


class SpooledStore(Store):
    """A store that can be written and read while it is down: what it cannot take is spooled, and reads try the spool
    first.
    """

    def __init__(self, name: str, driver: Driver, spool: Spool) -> None:
        super().__init__(name, driver)
        self.spool = spool

    def put(self, key: str, data: bytes, content_type: str = "") -> Stored:
        """Three tries at the store, then the spool (`spooled`); while the store counts as down, the spool at once.

        Raises SpoolFull when neither takes it.
        """
        began, outcome = time.monotonic(), "failed"
        try:
            stored = self._put(key, data, content_type)
            outcome = "spooled" if stored.spooled else "stored"
            return stored
        finally:
            STORE.labels("put", outcome).observe(time.monotonic() - began)

    def take(self, key: str, source: Store) -> None:
        """As of any store; a file that only gets a second name is measured too."""
        began = time.monotonic()
        if self.driver.link(keys.check(key), source.driver):
            STORE.labels("link", "stored").observe(time.monotonic() - began)
        else:
            self.put(key, source.read(key))

    def _put(self, key: str, data: bytes, content_type: str) -> Stored:
        if not self.spool.store_is_down():
            for attempt in range(TRIES):
                try:
                    return super().put(key, data, content_type)
                except StoreUnavailable as error:
                    _log.warning("try %d of %d to store %s: %s", attempt + 1, TRIES, key, error)
                    if attempt < TRIES - 1:
                        time.sleep(_FIRST_PAUSE * 3**attempt)
            self.spool.note_failure()
        self.spool.add(key, data)
        content_type = content_type or keys.content_type(key)
        return Stored(key, len(data), hashlib.sha256(data).hexdigest(), content_type, spooled=True)

    def copy(self, source: str, target: str) -> None:
        if self.spool.has(source):
            self.put(target, self.read(source))
        else:
            super().copy(source, target)

    def restore(self, key: str) -> timedelta | None:
        return None if self.spool.has(key) else super().restore(key)

    def open(self, key: str) -> BinaryIO:
        return self.spool.open(key) if self.spool.has(key) else super().open(key)

    def size(self, key: str) -> int:
        return self.spool.size(key) if self.spool.has(key) else super().size(key)

    def delete(self, key: str) -> None:
        """From the store first: if that fails, the spooled copy is still there and the call can be repeated."""
        super().delete(key)
        self.spool.remove(key)

    def discard(self, key: str) -> None:
        self.delete(key)

    def url(self, key: str, seconds: int) -> str:
        return signed_path(FILES_PATH + key, seconds) if self.spool.has(key) else super().url(key, seconds)

    def list(self, prefix: str) -> Iterator[Listed]:
        """The objects of the store, then those only in the spool."""
        waiting = {key for key in self.spool.entries() if key.startswith(prefix)}
        for found in super().list(prefix):
            waiting.discard(found.key)
            yield found
        for key in sorted(waiting):
            with suppress(ObjectNotFound):  # synchronised meanwhile
                yield Listed(key, self.spool.size(key), datetime.now(UTC))

    def sync(self) -> int:
        """Upload the spooled objects; how many succeeded."""
        return self.spool.sync(Store(self.name, self.driver))


def get_store(name: str) -> Store:
    """The store "images" (with its spool) or "raw", as the settings define it now."""
    return images() if name == "images" else Store(name, driver_for(storages[name]))


@functools.cache
def _bucket_loras(backend: Storage, root: Path, max_bytes: int) -> BucketLoras:
    """One per process: it fetches a file once."""
    return BucketLoras(driver_for(backend), root, max_bytes)


def lora_files() -> LoraFiles:
    """Where LORA_STORE says."""
    root = Path(settings.LORA_ROOT)
    if settings.LORA_STORE == "disk":
        return FolderLoras(root)
    return _bucket_loras(storages["loras"], root, settings.LORA_CACHE_BYTES)


def is_local(name: str) -> bool:
    """Whether that store is a folder of this machine (or one that is mounted here)."""
    return isinstance(driver_for(storages[name]), DiskDriver)


def images() -> SpooledStore:
    spool = _spool(Path(settings.SPOOL_ROOT), settings.SPOOL_MAX_BYTES)
    driver = driver_for(storages["images"], settings.ARCHIVE_RESTORE_TIER)
    return SpooledStore("images", driver, spool)


@functools.cache
def thumbnail_cache() -> Cache:
    """By key: bytes of thumbnails. A key never gets other bytes; only deletion makes an entry untrue."""
    return Cache(redis_clients.cache_client(), CacheConfig("thumb", 3600, max_bytes=settings.THUMBNAIL_CACHE_BYTES))


@functools.cache
def _spool(root: Path, max_bytes: int) -> Spool:
    """One per process: it caches how full it is."""
    return Spool(SpoolConfig(root, max_bytes=max_bytes))
