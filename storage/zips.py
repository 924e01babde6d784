"""ZIP files of many pictures, streamed from the store in constant memory.

Pictures are compressed already, so entries are stored as they are. What cannot be read does not break the file: its
name and the reason stand in MISSING.txt at the end of the ZIP.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import BinaryIO
from zipfile import ZIP_STORED

from zipstream import ZipStream

from storage.errors import Archived, NotFound, StorageError
from storage.store import Store

Opener = Callable[[str], BinaryIO]
CHUNK = 256 << 10  # bytes
REPORT = "MISSING.txt"
_ASKED_AT_ONCE = 8  # sizes asked of a store side by side
_LONGEST_STEM = 80  # bytes of UTF-8: with number and extension far below the 255 that file systems take
_RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"com{n}" for n in range(10)),
    *(f"lpt{n}" for n in range(10)),
}  # Windows devices


@dataclass(frozen=True)
class Entry:
    """One file of a ZIP: its name inside (made safe here), the object's key, and its bytes where they are known."""

    name: str
    key: str
    size: int | None = None


def measured(store: Store, entries: Sequence[Entry]) -> list[Entry] | None:
    """The entries with their sizes, as the store has them now; None when one of them can't be read."""

    def with_size(entry: Entry) -> Entry:
        return replace(entry, size=store.size(entry.key))

    try:
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as threads:
            return list(threads.map(with_size, entries))
    except StorageError:
        return None


def zip_length(entries: Iterable[Entry]) -> int:
    """Bytes of the ZIP that `stream_zip` makes of entries that all have a size."""
    archive, names = ZipStream(compress_type=ZIP_STORED, sized=True), _Names()
    for entry in entries:
        archive.add(iter(()), names.unique(safe_name(entry.name)), size=entry.size)
    return len(archive)


def stream_zip(
    store: Store, entries: Iterable[Entry], open_first: Opener | None = None, *, sized: bool = False
) -> Iterator[bytes]:
    """The ZIP's bytes. `entries` may be a generator over thousands of rows; each object is opened when its turn
    comes, by `open_first` where something is to be done at an opening (it may raise what `Store.open` raises, or
    Archived).

    With `sized` all entries have a size and the ZIP has exactly `zip_length` bytes: there is no room for a report, so
    what can't be read is an exception, and the ZIP ends there.
    """
    open_first = open_first or store.open
    archive = ZipStream(compress_type=ZIP_STORED, sized=sized)
    missing: list[str] = []
    names = _Names()
    for entry in entries:
        name = names.unique(safe_name(entry.name))
        try:
            reader = _Reader(store, entry.key, open_first(entry.key))
        except StorageError as error:
            if sized:
                raise
            missing.append(f"{name}\t{_reason(error)}")
            continue
        archive.add(iter(reader), name, size=entry.size)
        yield from archive.file()
        if reader.broken:
            missing.append(f"{name}\tincomplete: {reader.broken}")
    if missing:
        text = "These files could not be included:\n" + "\n".join(missing) + "\n"
        archive.add(text.encode(), names.unique(REPORT))
    yield from archive.finalize()


def safe_name(name: str) -> str:
    """A file name that every system can unpack and people can read: no folders, no control or direction signs, not
    too long.

    Letters of every script stay. "雪中的红狐狸/a: b?.webp" becomes "雪中的红狐狸_a_ b_.webp".
    """
    cleaned = unicodedata.normalize("NFC", name)
    cleaned = "".join(
        sign for sign in cleaned if unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    )
    cleaned = re.sub(r'[<>:"/\\|?*]', "_", cleaned)
    stem, dot, extension = cleaned.rpartition(".")
    if not dot or not re.fullmatch(r"[A-Za-z0-9]{1,5}", extension):
        stem, dot, extension = cleaned, "", ""
    stem = stem.encode()[:_LONGEST_STEM].decode(errors="ignore").strip(" .")
    if not stem or stem.split(".")[0].lower() in _RESERVED:
        stem = f"image {stem}".strip()
    return stem + dot + extension


class _Names:
    """Names given out so far; a second one of the same name (also in other letter case) gets a number."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}

    def unique(self, name: str) -> str:
        stem, dot, extension = name.rpartition(".") if "." in name else (name, "", "")
        candidate = name
        while candidate.casefold() in self._used:
            self._used[name.casefold()] += 1
            candidate = f"{stem} ({self._used[name.casefold()]}){dot}{extension}"
        self._used.setdefault(candidate.casefold(), 1)
        return candidate


class _Reader:
    """An object's chunks. An interrupted read is taken up again once at the byte where it stopped; a second one ends
    the entry.
    """

    def __init__(self, store: Store, key: str, file: BinaryIO) -> None:
        self._store, self._key = store, key
        self._file = file
        self.broken = ""

    def __iter__(self) -> Iterator[bytes]:
        done = 0
        again = True
        try:
            while True:
                try:
                    chunk = self._file.read(CHUNK)
                except (StorageError, OSError) as error:
                    if not again or not self._reopened(done):
                        self.broken = str(error)
                        return
                    again = False
                    continue
                if not chunk:
                    return
                done += len(chunk)
                yield chunk
        finally:
            self._file.close()

    def _reopened(self, skip: int) -> bool:
        self._file.close()
        try:
            self._file = self._store.open(self._key)
            while skip > 0:
                passed = len(self._file.read(min(CHUNK, skip)))
                if not passed:
                    return False
                skip -= passed
        except (StorageError, OSError):
            return False
        return True


def _reason(error: StorageError) -> str:
    if isinstance(error, NotFound):
        return "no longer stored"
    if isinstance(error, Archived):
        return f"in the archive, back after {error.ready_at:%Y-%m-%d %H:%M} UTC"
    return "the store did not answer; try again later"
