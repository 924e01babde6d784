"""Files of downloads: checked by their hash, and never half written."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from pathlib import Path
from types import TracebackType
from typing import Protocol

from imagegenx.bodies import Output, Task
from imagegenx.errors import HashMismatch

_WORDS = 40  # characters of the text in a file's name


class Sink(Protocol):
    """Takes the pieces of one try of a download, between enter and exit."""

    def write(self, piece: bytes) -> None: ...

    def __enter__(self) -> Sink: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class CheckedFile:
    """Writes a file beside `path`, and moves it there when its SHA-256 is right; otherwise, and when anything fails,
    no file is left. An empty `sha256` is not checked.
    """

    def __init__(self, path: Path, sha256: str = "") -> None:
        self._path, self._sha256, self._digest = path, sha256, hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        # parts of a run that was killed are recognised by their ending
        self._part = path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}.part")
        self._file = self._part.open("xb")

    def write(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._file.write(piece)

    def __enter__(self) -> CheckedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        try:
            if kind is None:
                check(self._digest.hexdigest(), self._sha256, self._path.name)
                os.replace(self._part, self._path)
        finally:
            self._part.unlink(missing_ok=True)


class CheckedBytes:
    """Keeps the bytes; `content` when they are complete and right."""

    def __init__(self, name: str, sha256: str = "") -> None:
        self._name, self._sha256, self.content = name, sha256, b""
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def __enter__(self) -> CheckedBytes:
        self._pieces.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            content = b"".join(self._pieces)
            check(hashlib.sha256(content).hexdigest(), self._sha256, self._name)
            self.content = content


def check(found: str, expected: str, name: str) -> None:
    """Raises HashMismatch."""
    if expected and found != expected:
        raise HashMismatch(f"{name}: the download has the SHA-256 {found}, expected {expected}.")


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def file_name(task: Task, output: Output, stem: str = "") -> str:
    """`a-red-circle-4f5061b2-0.webp`: the text's first words, the task's end, the picture's number."""
    words = slug(stem or task.text)
    form = re.sub(r"[^a-z0-9]", "", output.format)[:5] or "bin"
    unique = re.sub(r"[^A-Za-z0-9]", "", task.task_id)[-12:]
    return f"{words}-{unique}-{output.index}.{form}"


def slug(text: str) -> str:
    """Letters and digits of any script, in no way a path."""
    return re.sub(r"[\W_]+", "-", text)[:_WORDS].strip("-").lower() or "picture"
