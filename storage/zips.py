"""ZIP files of many pictures, streamed from the store in constant memory.

Pictures are compressed already, so entries are stored uncompressed. Each object is fetched completely before its entry
begins (over 1 MiB into a temporary file), so that an unreadable object breaks neither an entry nor the ZIP:

    without a promised length    MISSING.txt at the end of the ZIP lists its name and the reason
    with a promised length       a text of the same size with the reason replaces it: "fox.webp" becomes "fox_.txt"
"""

import re
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import IO, BinaryIO
from zipfile import ZIP_STORED

from zipstream import ZipStream

from storage.errors import Archived, ObjectNotFound, StorageError, StoreUnavailable
from storage.store import Store

Opener = Callable[[str], BinaryIO]
CHUNK = 256 << 10  # bytes
_IN_MEMORY = 1 << 20  # bytes of one object; larger ones go to a temporary file
REPORT = "MISSING.txt"
_SIZE_THREADS = 8  # concurrent requests for sizes
_LONGEST_STEM = 80  # bytes of UTF-8; with number and extension far below the limit of file systems (255)
_RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"com{n}" for n in range(10)),
    *(f"lpt{n}" for n in range(10)),
}  # Windows devices


@dataclass(frozen=True)
class ZipEntry:
    """One file of a ZIP. `name`: its name inside (made safe here); `key`: of the object; `size`: bytes, if known."""

    name: str
    key: str
    size: int | None = None


def measured(store: Store, entries: Sequence[ZipEntry]) -> list[ZipEntry] | None:
    """The entries with the sizes of their objects; None when one of them can't be read."""

    def with_size(entry: ZipEntry) -> ZipEntry:
        return replace(entry, size=store.size(entry.key))

    try:
        with ThreadPoolExecutor(_SIZE_THREADS) as threads:
            return list(threads.map(with_size, entries))
    except StorageError:
        return None


def zip_length(entries: Iterable[ZipEntry]) -> int:
    """Size in bytes of the ZIP that `stream_zip` makes; all entries must have a size."""
    archive, names = ZipStream(compress_type=ZIP_STORED, sized=True), _Names()
    for entry in entries:
        archive.add(iter(()), names.unique(safe_name(entry.name)), size=entry.size)
    return len(archive)


def stream_zip(
    store: Store, entries: Iterable[ZipEntry], open_first: Opener | None = None, *, sized: bool = False
) -> Iterator[bytes]:
    """The ZIP's bytes. `entries` may be a generator over thousands of rows: each object is opened only for its entry,
    by `open_first` if given (it may raise what `Store.open` raises, or Archived). With `sized` all entries must have a
    size, and the ZIP has exactly `zip_length` bytes even if objects are missing.
    """
    archive, names = ZipStream(compress_type=ZIP_STORED, sized=sized), _Names()
    missing: list[str] = []
    for entry in entries:
        name = names.unique(safe_name(entry.name))
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as kept:
            try:
                size = _fetch(store, entry, open_first or store.open, kept)
            except StorageError as error:
                if not sized:
                    missing.append(f"{name}\t{_reason(error)}")
                    continue
                size = entry.size or 0
                archive.add(_note(name, _reason(error), size), _note_name(name), size=size)
            else:
                archive.add(_chunks(kept), name, size=size)
            yield from archive.file()
    if missing:
        text = "These files could not be included:\n" + "\n".join(missing) + "\n"
        archive.add(text.encode(), names.unique(REPORT))
    yield from archive.finalize()


def _fetch(store: Store, entry: ZipEntry, open_first: Opener, target: IO[bytes]) -> int:
    """Copy the object to `target` and rewind it; how many bytes. A read that is cut off is resumed once at that byte.
    Raises StorageError, also if the object does not have the entry's size.
    """
    source, again = open_first(entry.key), True
    while True:
        try:
            with source:
                shutil.copyfileobj(source, target, CHUNK)
            break
        except (StorageError, OSError) as error:
            if not again:
                raise StoreUnavailable(f"{entry.key!r}: cut off twice: {error}") from error
            again = False
            source = _opened_at(store, entry.key, target.tell())
    size = target.tell()
    if entry.size not in (None, size):
        raise StoreUnavailable(f"{entry.key!r}: {size} bytes came, {entry.size} were announced.")
    target.seek(0)
    return size


def _opened_at(store: Store, key: str, skip: int) -> BinaryIO:
    source = store.open(key)
    while skip > 0:
        passed = len(source.read(min(CHUNK, skip)))
        if not passed:
            raise StoreUnavailable(f"{key!r}: it is shorter than before.")
        skip -= passed
    return source


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _note(name: str, reason: str, size: int) -> Iterator[bytes]:
    """A text of exactly `size` bytes, padded with line feeds."""
    text = f"{name} could not be included: {reason}.\n".encode()[:size]
    yield text
    left = size - len(text)
    while left > 0:
        yield b"\n" * min(CHUNK, left)
        left -= CHUNK


def _note_name(name: str) -> str:
    """A name of the same length for a text: fox.webp becomes fox_.txt, fox.png fox.txt. Without an extension:
    `name`.
    """
    stem, dot, extension = name.rpartition(".")
    return f"{stem}{'_' * (len(extension) - 3)}.txt" if dot and len(extension) >= 3 else name


def safe_name(name: str) -> str:
    """A file name that every system can unpack: no folders, no control or direction characters, not too long.

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
    """Names used so far; another one that is equal but for letter case gets a number."""

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


def _reason(error: StorageError) -> str:
    if isinstance(error, ObjectNotFound):
        return "no longer stored"
    if isinstance(error, Archived):
        return f"in the archive, back after {error.ready_at:%Y-%m-%d %H:%M} UTC"
    return "the store did not answer; try again later"
