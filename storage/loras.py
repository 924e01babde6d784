"""LoRA files, named by their SHA-256: in a folder that web and GPU workers share, or in the object store.

    LORA_STORE=disk   {LORA_ROOT}/{sha256}.safetensors
    LORA_STORE=s3     loras/{sha256}.safetensors in the bucket of the pictures; LORA_ROOT is each machine's cache

A file is never written again, so a cached one is good for ever; whoever reads it compares its hash.
"""

import logging
import os
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Final, Protocol

from storage.disk import sync_folder
from storage.errors import StoreUnavailable

STORED: Final = "store:"  # the source of a LoRA in the object store begins so; the hash follows
_TRIES: Final = 3
_PAUSE_S: Final = 0.5  # before the second try; the third waits twice as long
_log = logging.getLogger(__name__)


class LoraFiles(Protocol):
    """`root`: where an upload is written before it is checked."""

    root: Path

    def add(self, temporary: Path, sha256: str) -> str:
        """Keep a checked file; its source, for `path`. Raises StoreUnavailable."""

    def path(self, source: str) -> str:
        """The file on this machine. Raises StoreUnavailable, ObjectNotFound."""


class FolderLoras:
    """A source is the file's absolute path; others are left as they are."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, temporary: Path, sha256: str) -> str:
        final = self.root / f"{sha256}.safetensors"
        os.replace(temporary, final)
        sync_folder(self.root)
        return str(final)

    def path(self, source: str) -> str:
        if source.startswith(STORED):
            raise StoreUnavailable(f"LoRA {source} is in an object store, and LORA_STORE is disk")
        return source


class BucketLoras:
    """`driver`: an S3Driver; `max_bytes`: of the cache, beyond which the files that were used longest ago go."""

    def __init__(self, driver: Any, root: Path, max_bytes: int) -> None:
        self.root = root
        self._driver = driver
        self._max_bytes = max_bytes
        self._one = threading.Lock()

    def add(self, temporary: Path, sha256: str) -> str:
        self._driver.upload(temporary, _key(sha256))
        os.replace(temporary, self._cached(sha256))
        return STORED + sha256

    def path(self, source: str) -> str:
        if not source.startswith(STORED):
            return source
        sha256 = source.removeprefix(STORED)
        cached = self._cached(sha256)
        with self._one:
            if not cached.exists():
                self._fetch(sha256, cached)
            os.utime(cached)
            self._shrink(but=cached)
        return str(cached)

    def _fetch(self, sha256: str, cached: Path) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        partial = self.root / f".tmp-{uuid.uuid4().hex}"
        try:
            for attempt in range(_TRIES):
                try:
                    self._driver.download(_key(sha256), partial)
                    break
                except StoreUnavailable as error:
                    _log.warning("try %d of %d to fetch LoRA %s: %s", attempt + 1, _TRIES, sha256[:12], error)
                    if attempt == _TRIES - 1:
                        raise
                    time.sleep(_PAUSE_S * 2**attempt)
            os.replace(partial, cached)
        finally:
            partial.unlink(missing_ok=True)

    def _shrink(self, but: Path) -> None:
        """Only files of this cache; one that is being read stays readable until it is closed."""
        files = [(file.stat().st_mtime, file.stat().st_size, file) for file in self.root.glob("*.safetensors")]
        left = sum(size for _, size, _ in files)
        for _, size, file in sorted(files):
            if left <= self._max_bytes:
                return
            if file != but:
                file.unlink(missing_ok=True)
                left -= size

    def _cached(self, sha256: str) -> Path:
        return self.root / f"{sha256}.safetensors"


def _key(sha256: str) -> str:
    return f"loras/{sha256}.safetensors"
