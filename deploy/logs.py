"""Watches the log files of the processes for warnings and errors."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

ROTATE_BYTES = 64 << 20
LINES_PER_CHECK = 5
LINE_LENGTH = 300
_SEVERE = re.compile(r"\b(WARNING|ERROR|CRITICAL|FATAL|PANIC)\b|^Traceback|^[\w.]*(Error|Exception): ")
REPEAT_S = 60.0  # the same line of the same process is shown once in this time
# Redis warns of a kernel setting that matters on large machines only; Postgres refuses the readiness probe during its
# start; Flower inspects the workers before they are up.
_HARMLESS = ("Memory overcommit must be enabled", "the database system is starting up", "Inspect method ")
_SEVERE_LEVELS = {"warning", "error", "critical"}


class LogWatcher:
    """Reads new lines of one log file, reports the severe ones, and rotates a large file."""

    def __init__(self, name: str, path: Path, report: Callable[[str], None]) -> None:
        self.name = name
        self.path = path
        self._report = report
        self._offset = path.stat().st_size if path.exists() else 0
        self._rest = b""
        self._shown: dict[str, float] = {}

    def check(self) -> None:
        """Report the severe lines since the last call, at most LINES_PER_CHECK of them."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return
        if size == self._offset:
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            chunk = self._rest + file.read(1 << 20)
            self._offset = file.tell()
        *lines, self._rest = chunk.split(b"\n")
        severe = [text for line in lines if (text := severe_text(line.decode(errors="replace"))) and self._is_new(text)]
        for text in severe[:LINES_PER_CHECK]:
            self._report(f"[{self.name}] {text[:LINE_LENGTH]}")
        if len(severe) > LINES_PER_CHECK:
            self._report(f"[{self.name}] and {len(severe) - LINES_PER_CHECK} more such lines: {self.path}")
        if self._offset > ROTATE_BYTES:
            self._rotate()

    def _is_new(self, text: str) -> bool:
        now = time.monotonic()
        self._shown = {line: since for line, since in self._shown.items() if now - since < REPEAT_S}
        return self._shown.setdefault(text, now) == now

    def _rotate(self) -> None:
        """Copy the file to .1 and truncate it; the process goes on appending to the same file."""
        shutil.copyfile(self.path, self.path.with_suffix(".log.1"))
        os.truncate(self.path, 0)
        self._offset = 0


def severe_text(line: str) -> str | None:
    """The text to show for a log line, JSON lines as "level: event"; None below the level of a warning."""
    if line.startswith("{"):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = {}
        level = str(entry.get("level", "")).lower()
        shown = f"{level}: {str(entry.get('event', line)).splitlines()[0]}" if level in _SEVERE_LEVELS else None
    else:
        shown = line.strip() if _SEVERE.search(line) else None
    return None if shown is None or any(text in shown for text in _HARMLESS) else shown


def log_tail(path: Path, lines: int = 15) -> str:
    """The end of a log file, for an error message."""
    if not path.exists():
        return "(no log)"
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8192))
        return "\n".join(file.read().decode(errors="replace").strip().splitlines()[-lines:])
