"""The log files of the processes: written by them directly, watched here for what a person should see at once."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

ROTATE_BYTES = 64 << 20
LINES_PER_LOOK = 5
LINE_LENGTH = 300
_SEVERE = re.compile(r"\b(WARNING|ERROR|CRITICAL|FATAL|PANIC)\b|^Traceback|^[\w.]*(Error|Exception): ")
REPEAT_S = 60.0  # the same line of the same process is shown once in this time
# Redis asks for a kernel setting that matters on large machines only; Postgres turns away the question whether it is
# ready; Flower asks the workers before they are there.
_HARMLESS = ("Memory overcommit must be enabled", "the database system is starting up", "Inspect method ")
_SEVERE_LEVELS = {"warning", "error", "critical"}


class LogFollower:
    """Reads what one process newly wrote, reports the severe lines, and rotates a file that grew large."""

    def __init__(self, name: str, path: Path, report: Callable[[str], None]) -> None:
        self.name = name
        self.path = path
        self._report = report
        self._offset = path.stat().st_size if path.exists() else 0
        self._rest = b""
        self._shown: dict[str, float] = {}

    def look(self) -> None:
        """Report the severe lines since the last look, at most LINES_PER_LOOK of them."""
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
        severe = [
            text for line in lines if (text := severe_text(line.decode(errors="replace"))) and self._is_news(text)
        ]
        for text in severe[:LINES_PER_LOOK]:
            self._report(f"[{self.name}] {text[:LINE_LENGTH]}")
        if len(severe) > LINES_PER_LOOK:
            self._report(f"[{self.name}] and {len(severe) - LINES_PER_LOOK} more such lines: {self.path}")
        if self._offset > ROTATE_BYTES:
            self._rotate()

    def _is_news(self, text: str) -> bool:
        now = time.monotonic()
        self._shown = {line: since for line, since in self._shown.items() if now - since < REPEAT_S}
        return self._shown.setdefault(text, now) == now

    def _rotate(self) -> None:
        """Keep the file as .1 and empty it; the process goes on writing to the same file (opened for appending)."""
        shutil.copyfile(self.path, self.path.with_suffix(".log.1"))
        os.truncate(self.path, 0)
        self._offset = 0


def severe_text(line: str) -> str | None:
    """What to show of one log line: None for lines below warning, JSON lines as "level: event"."""
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


def last_words(path: Path, lines: int = 15) -> str:
    """The end of a log file, for an error message."""
    if not path.exists():
        return "(no log)"
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8192))
        return "\n".join(file.read().decode(errors="replace").strip().splitlines()[-lines:])
