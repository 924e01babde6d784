"""The files of the product are for its own account only: folders 700, files 600.

New files are so by the umask of every process (deploy/commands.py, deploy/run.py, UMASK in the settings). Those of
earlier versions are mended at the start.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

DATA_FOLDERS = ("MEDIA_ROOT", "RAW_ROOT", "SPOOL_ROOT", "LORA_ROOT")  # settings that name folders outside VAR_DIR
_OTHERS = 0o077


def make_private(folders: Iterable[Path]) -> int:
    """Close these folders and all that is in them to other accounts; how many entries were open.

    A folder that is closed already is not looked into: nobody else reaches what is there, and there may be millions.
    Links are not followed, entries of other accounts are left alone.
    """
    mended = 0
    for folder in folders:
        with suppress(FileNotFoundError):
            if folder.lstat().st_mode & _OTHERS:
                mended += sum(_close(entry) for entry in folder.rglob("*")) + _close(folder)
    return mended


def _close(entry: Path) -> bool:
    """Whether it was open. The folder itself is closed last, so that an interrupted walk is repeated."""
    with suppress(FileNotFoundError, PermissionError):
        found = entry.lstat()
        regular = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
        if regular and found.st_mode & _OTHERS and found.st_uid == os.geteuid():
            entry.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
            return True
    return False
