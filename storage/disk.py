"""Durable writes: a crash at any moment leaves the old file, the new file or none, never a part of one."""

import os
from pathlib import Path
from uuid import uuid4

PRUNE_RACES = 20  # lost in a row before the error is raised


def write_durably(path: Path, data: bytes) -> None:
    """Write `data` to `path` completely or not at all; when this returns, it survives a power cut.

    1 write a temporary file beside the target (same file system), 2 fsync it, 3 rename it over the target (atomic),
    4 fsync the folders that changed. A crash before 3 leaves a `.tmp-*` file, which `remove_leftovers` deletes.

    Another process may prune a new folder before the first file is in it: the write is then repeated.
    """
    for _ in range(PRUNE_RACES):
        try:
            return _write(path, data)
        except FileNotFoundError:
            continue
    return _write(path, data)


def _write(path: Path, data: bytes) -> None:
    made = _make_folders(path.parent)
    temporary = path.parent / f".tmp-{uuid4().hex}"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    for folder in [path.parent, *made]:
        sync_folder(folder)


def link_durably(existing: Path, path: Path) -> None:
    """A second name for a file that was written durably. Does nothing where `path` is that file already."""
    made = _make_folders(path.parent)
    try:
        os.link(existing, path)
    except FileExistsError:
        if not os.path.samefile(existing, path):
            raise
    for folder in [path.parent, *made]:
        sync_folder(folder)


def remove_durably(path: Path) -> bool:
    """Whether there was a file to delete."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync_folder(path.parent)
    return True


def remove_leftovers(root: Path, older_than: float) -> int:
    """Delete temporary files left by crashes under `root`, last written before `older_than` (POSIX seconds)."""
    removed = 0
    for path in root.rglob(".tmp-*"):
        try:
            if path.stat().st_mtime < older_than:
                path.unlink()
                removed += 1
        except FileNotFoundError:  # its writer has just finished
            continue
    return removed


def prune_empty_folders(start: Path, root: Path) -> None:
    """Remove `start` and its parents below `root` while they are empty."""
    folder = start
    while folder != root and root in folder.parents:
        try:
            folder.rmdir()
        except OSError:  # not empty, or another process was faster
            return
        folder = folder.parent


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_folders(folder: Path) -> list[Path]:
    """Create `folder` and its missing parents. Returns the folders whose entries changed."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
    return [path.parent for path in missing]
