"""The local spool: finished pictures are kept here while the object store is down, and uploaded later, in order.

Layout below SPOOL_ROOT (a disk shared by all processes; with several machines a shared volume):

    objects/{key}   the bytes, written durably; the modification time is the position in the queue
    down            exists while the store counts as down; its modification time is the last failure
    lock            held (flock) by the process that synchronises; the kernel releases it when that process dies

An entry is one file, written by one rename and removed after the bytes were verified in the store. A crash before the
rename leaves nothing, and the caller has got no answer; after it the entry is complete; a crash between verification
and removal repeats the upload of the same bytes under the same key.
"""

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from imagegenx_site.config import SpoolConfig
from imagegenx_site.ttl import TtlValue
from storage import disk, keys
from storage.errors import ObjectNotFound, SpoolFull, StoreUnavailable

_log = logging.getLogger(__name__)
_COUNT_S = 1.0  # how long a count of the entries is reused to check the bounds
_FAILURES_IN_A_ROW = 3  # failing entries after which the store counts as down


@dataclass(frozen=True)
class SpoolState:
    """`oldest_seconds`: age of the first entry, 0 when empty; `full`: 0 to 1, of the nearer bound."""

    files: int
    bytes: int
    oldest_seconds: float
    full: float
    store_down: bool


class Target(Protocol):
    def put(self, key: str, data: bytes, content_type: str = "") -> object: ...


class Spool:
    def __init__(self, config: SpoolConfig) -> None:
        self.config = config
        self._holds = TtlValue(self._count, _COUNT_S)
        self._objects = config.root / "objects"
        self._down = config.root / "down"

    def add(self, key: str, data: bytes) -> None:
        """Keep `data` until it is synchronised; durable when this returns. Raises SpoolFull.

        The bounds are checked against a count at most one second old plus what this process added since: a count in
        every call would slow a long outage down with each picture.
        """
        files, size = self._holds.get()
        if files >= self.config.max_files or size + len(data) > self.config.max_bytes:
            raise SpoolFull(f"The spool holds {files} files of {size} bytes; {key!r} does not fit.")
        try:
            disk.write_durably(self._path(key), data)
        except OSError as error:
            raise SpoolFull(f"The spool cannot take {key!r}: {error}") from error
        self._holds.adjust(lambda held: (held[0] + 1, held[1] + len(data)))

    def has(self, key: str) -> bool:
        return self._path(key).is_file()

    def open(self, key: str) -> BinaryIO:
        try:
            return open(self._path(key), "rb")
        except FileNotFoundError as error:
            raise ObjectNotFound(key) from error

    def size(self, key: str) -> int:
        try:
            return self._path(key).stat().st_size
        except FileNotFoundError as error:
            raise ObjectNotFound(key) from error

    def remove(self, key: str) -> None:
        path = self._path(key)
        if disk.remove_durably(path):
            disk.prune_empty_folders(path.parent, self._objects)

    def entries(self) -> list[str]:
        """Keys in the order of arrival."""
        return [key for _, key, _ in sorted(self._scan())]

    def state(self) -> SpoolState:
        found = list(self._scan())
        total = sum(size for _, _, size in found)
        oldest = time.time() - min(when for when, _, _ in found) / 1e9 if found else 0.0
        full = max(total / self.config.max_bytes, len(found) / self.config.max_files)
        return SpoolState(len(found), total, max(0.0, oldest), full, self.store_is_down())

    def _count(self) -> tuple[int, int]:
        """Files and bytes."""
        sizes = [size for _, _, size in self._scan()]
        return len(sizes), sum(sizes)

    def store_is_down(self) -> bool:
        """True for `down_seconds` after a failure, so that not every picture waits for three failed tries."""
        try:
            return time.time() - self._down.stat().st_mtime < self.config.down_seconds
        except (FileNotFoundError, NotADirectoryError):
            return False

    def note_failure(self) -> None:
        try:
            self.config.root.mkdir(parents=True, exist_ok=True)
            self._down.touch()
        except OSError as error:  # the mark only saves time; whether the spool is writable shows in `add`
            _log.error("the spool's folder cannot be written: %s", error)

    def note_success(self) -> None:
        self._down.unlink(missing_ok=True)

    def sync(self, target: Target, limit: int = 10_000) -> int:
        """Upload up to `limit` entries, oldest first; how many succeeded. 0 while another process synchronises.

        An entry that fails stays, and the next ones are tried until three in a row fail.
        """
        arrived = failures = 0
        with self._only_one() as alone:
            for key in self.entries()[:limit] if alone else []:
                try:
                    with self.open(key) as file:
                        target.put(key, file.read(), keys.content_type(key))
                except ObjectNotFound:  # deleted since the scan
                    continue
                except StoreUnavailable as error:
                    failures += 1
                    _log.warning("spooled %s stays: %s", key, error)
                    if failures == _FAILURES_IN_A_ROW:
                        self.note_failure()
                        break
                    continue
                self.remove(key)
                failures = 0
                arrived += 1
            if arrived and not failures:
                self.note_success()
        return arrived

    def _path(self, key: str) -> Path:
        return self._objects / keys.check(key)

    def _scan(self) -> Iterator[tuple[int, str, int]]:
        """Modification time in ns, key and size of each entry."""
        for folder, _, names in os.walk(self._objects):
            for name in names:
                path = Path(folder, name)
                try:
                    status = path.stat()
                except FileNotFoundError:  # synchronised during the scan
                    continue
                if not name.startswith(".tmp-"):
                    yield status.st_mtime_ns, path.relative_to(self._objects).as_posix(), status.st_size

    @contextmanager
    def _only_one(self) -> Iterator[bool]:
        self.config.root.mkdir(parents=True, exist_ok=True)
        with open(self.config.root / "lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
