"""Drivers add to Django's Storage interface: durable writes, verification, copies, listing, signed URLs, and restoring
objects in a storage class that cannot be read at once.

A driver wraps one Storage object of `settings.STORAGES`. `driver_for` (storage/driver_choice.py) chooses local disk, S3
(storage/s3.py), or for any other django-storages backend the plain interface, which reads back every write to verify
it. Drivers raise only the errors of storage/errors.py.
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
from storage.errors import ObjectNotFound, StoreUnavailable, VerifyFailed

FILES_PATH = "/files/"  # path of this server's signed URLs (storage/urls.py)


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
    def link(self, key: str, source: "Driver") -> bool: ...
    def copy(self, source: str, target: str, content_type: str) -> None: ...
    def restore(self, key: str) -> timedelta | None: ...
    def open(self, key: str) -> BinaryIO: ...
    def size(self, key: str) -> int: ...
    def delete(self, key: str) -> None: ...
    def discard(self, key: str) -> None: ...
    def url(self, key: str, seconds: int) -> str: ...
    def list(self, prefix: str) -> Iterator[Listed]: ...


class PlainDriver:
    """Any django-storages backend, through the common interface."""

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
        """Raise VerifyFailed unless exactly `data` is stored under `key`: checks the size, then the SHA-256 of the
        stored bytes.
        """
        if self.size(key) != len(data):
            raise VerifyFailed(f"{key!r}: {self.size(key)} bytes are stored, {len(data)} were sent.")
        with self.open(key) as stored:
            digest = hashlib.file_digest(stored, "sha256").hexdigest()  # type: ignore[arg-type]  # all have readinto
        if digest != hashlib.sha256(data).hexdigest():
            raise VerifyFailed(f"{key!r}: the SHA-256 of the stored bytes differs from that of the sent ones.")

    def link(self, key: str, source: Driver) -> bool:
        """Give the object of another store a second name here, without its bytes; False where that is not possible."""
        return False

    def copy(self, source: str, target: str, content_type: str) -> None:
        """Copy to a second key and verify. Raises ObjectNotFound, NeedsRestore."""
        with self.open(source) as file:
            data = file.read()
        self.write(target, data, content_type)
        self.prove(target, data)

    def restore(self, key: str) -> timedelta | None:
        """None when the object can be read now; otherwise how long its restore takes from the first request, which this
        call makes if none is running. Raises ObjectNotFound.
        """
        self.size(key)
        return None

    def open(self, key: str) -> BinaryIO:
        with _translated(key):
            if not self._backend.exists(key):
                raise ObjectNotFound(key)
            return self._backend.open(key, "rb")  # type: ignore[return-value]

    def size(self, key: str) -> int:
        with _translated(key):
            return self._backend.size(key)

    def delete(self, key: str) -> None:
        with _translated(key):
            self._backend.delete(key)

    def discard(self, key: str) -> None:
        self.delete(key)

    def url(self, key: str, seconds: int) -> str:
        """The backend's own URL; if it is signed, its lifetime is a setting of the backend."""
        return self._backend.url(key)

    def list(self, prefix: str) -> Iterator[Listed]:
        folder, _, start = prefix.rpartition("/")
        try:
            with _translated(prefix):
                folders, files = self._backend.listdir(folder)
        except ObjectNotFound:  # no such folder: nothing with this prefix
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
    """A local folder: durable writes, URLs of this server."""

    _backend: FileSystemStorage

    def write(self, key: str, data: bytes, content_type: str) -> None:
        with _translated(key):
            disk.write_durably(self._path(key), data)

    def link(self, key: str, source: Driver) -> bool:
        if not isinstance(source, DiskDriver):
            return False
        try:
            disk.link_durably(source._path(key), self._path(key))
        except OSError:  # another file system, or one without links; what else is wrong, a copy will say
            return False
        return True

    def open(self, key: str) -> BinaryIO:
        with _translated(key):
            return open(self._path(key), "rb")

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _translated(key):
            if disk.remove_durably(path):
                disk.prune_empty_folders(path.parent, Path(self._backend.location))

    def discard(self, key: str) -> None:
        path = self._path(key)
        with _translated(key):
            path.unlink(missing_ok=True)
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
    """Translate the errors of backends into those of storage/errors.py."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectNotFound(key) from error
    except OSError as error:
        raise StoreUnavailable(f"{key!r}: {error}") from error
