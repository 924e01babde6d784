"""How a store does what Django's Storage interface leaves open: writing durably, proving what was written, copying,
listing, signed URLs, and restoring what lies in a class that cannot be read at once.

A driver wraps one Storage object of `settings.STORAGES`. `driver_for` chooses: local disk, S3 (storage/s3.py), or,
for any other django-storages backend, the plain interface with a read-back to prove each write. Drivers raise the
errors of storage/errors.py only.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Protocol

from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, Storage

from storage import disk, signing
from storage.errors import NotFound, StoreUnavailable, VerifyFailed

FILES_PATH = "/files/"  # where this server answers signed URLs of its own (storage/urls.py)


CHUNK = 1 << 20


@dataclass(frozen=True)
class Listed:
    """One object as a store lists it."""

    key: str
    size: int
    modified: datetime


class Driver(Protocol):
    def write(self, key: str, data: bytes, content_type: str) -> None: ...
    def prove(self, key: str, data: bytes) -> None: ...
    def copy(self, source: str, target: str, content_type: str) -> None: ...
    def restore(self, key: str) -> timedelta | None: ...
    def open(self, key: str) -> BinaryIO: ...
    def size(self, key: str) -> int: ...
    def delete(self, key: str) -> None: ...
    def url(self, key: str, seconds: int) -> str: ...
    def list(self, prefix: str) -> Iterator[Listed]: ...


class PlainDriver:
    """Any django-storages backend through the interface that they all have."""

    def __init__(self, backend: Storage) -> None:
        self._backend = backend

    def write(self, key: str, data: bytes, content_type: str) -> None:
        content = ContentFile(data)
        content.content_type = content_type  # type: ignore[attr-defined]  # django-storages reads it there
        with _translated(key):
            saved = self._backend.save(key, content)
            if saved != key:  # the backend is set to rename instead of overwriting: the key is taken
                self._backend.delete(saved)

    def prove(self, key: str, data: bytes) -> None:
        """Raise VerifyFailed unless exactly `data` is stored under `key`: by its size, then by the SHA-256 of what
        is read back.
        """
        if self.size(key) != len(data):
            raise VerifyFailed(f"{key!r}: {self.size(key)} bytes are stored, {len(data)} were sent.")
        with self.open(key) as stored:
            digest = hashlib.file_digest(stored, "sha256").hexdigest()  # type: ignore[arg-type]  # all have readinto
        if digest != hashlib.sha256(data).hexdigest():
            raise VerifyFailed(f"{key!r}: the stored bytes have another SHA-256 than those sent.")

    def copy(self, source: str, target: str, content_type: str) -> None:
        """The object under a second key, proved. Raises NotFound, NeedsRestore."""
        with self.open(source) as file:
            data = file.read()
        self.write(target, data, content_type)
        self.prove(target, data)

    def restore(self, key: str) -> timedelta | None:
        """None when the object can be read now. Otherwise the store has been asked, now or before, to make it
        readable, and takes about so long from the first asking. Raises NotFound.
        """
        self.size(key)
        return None

    def open(self, key: str) -> BinaryIO:
        with _translated(key):
            if not self._backend.exists(key):
                raise NotFound(key)
            return self._backend.open(key, "rb")  # type: ignore[return-value]

    def size(self, key: str) -> int:
        with _translated(key):
            return self._backend.size(key)

    def delete(self, key: str) -> None:
        with _translated(key):
            self._backend.delete(key)

    def url(self, key: str, seconds: int) -> str:
        """The backend's own URL where it signs; its lifetime is then the backend's setting."""
        return self._backend.url(key)

    def list(self, prefix: str) -> Iterator[Listed]:
        folder, _, start = prefix.rpartition("/")
        try:
            with _translated(prefix):
                folders, files = self._backend.listdir(folder)
        except NotFound:  # no such folder: nothing with this prefix
            return
        base = f"{folder}/" if folder else ""
        for name in sorted(files):
            if name.startswith(start) and not name.startswith("."):
                key = base + name
                yield Listed(key, self._backend.size(key), self._backend.get_modified_time(key))
        for name in sorted(folders):
            if name.startswith(start):
                yield from self.list(f"{base}{name}/")


class DiskDriver(PlainDriver):
    """A folder of this machine: durable writes, URLs that this server answers."""

    _backend: FileSystemStorage

    def write(self, key: str, data: bytes, content_type: str) -> None:
        with _translated(key):
            disk.write_durably(self._path(key), data)

    def open(self, key: str) -> BinaryIO:
        with _translated(key):
            return open(self._path(key), "rb")

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _translated(key):
            if disk.remove_durably(path):
                disk.prune_empty_folders(path.parent, Path(self._backend.location))

    def url(self, key: str, seconds: int) -> str:
        return signed_path(FILES_PATH + key, seconds)

    def list(self, prefix: str) -> Iterator[Listed]:
        root = Path(self._backend.location)
        folder = root / prefix.rpartition("/")[0]
        if not folder.is_dir():
            return
        for parent, folders, files in os.walk(folder):
            folders.sort()
            for name in sorted(files):
                path = Path(parent) / name
                key = path.relative_to(root).as_posix()
                if key.startswith(prefix) and not name.startswith("."):
                    status = path.stat()
                    yield Listed(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def _path(self, key: str) -> Path:
        return Path(self._backend.path(key))


def signed_path(path: str, seconds: int) -> str:
    """A path of this server that anybody may read for `seconds`."""
    return f"{path}?{signing.signed_query(path, seconds)}"


@contextmanager
def _translated(key: str) -> Iterator[None]:
    """Turn what backends raise into our errors."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(key) from error
    except OSError as error:
        raise StoreUnavailable(f"{key!r}: {error}") from error
