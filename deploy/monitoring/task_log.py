"""The life of one task from the logs of all processes, in order: `make logs TASK=img...`.

Reads VAR_DIR/log of a run on one machine, also of one that has stopped. Every line that has the task's id as a field
(imagegenx_site/log_lines.py), those that only name it, and all lines of the requests that submitted it.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from imagegenx_site.ids import from_public

_SHOWN_APART: Final = {"timestamp", "level", "event", "logger", "task_id", "exception"}
_NO_VALUE: Final[tuple[object, ...]] = (None, "", [])


@dataclass(frozen=True, order=True)
class LogLine:
    """`at`: ISO 8601 in UTC, "" for a line that is no JSON object. `place`: its number in its file."""

    at: str
    process: str
    place: int
    text: str
    request: str = ""


def parse_task(text: str) -> UUID | None:
    """The task that `img...`, or a dashed id, names."""
    try:
        return from_public(text) or UUID(text)
    except ValueError:
        return None


def lines_of(task: UUID, folder: Path) -> list[LogLine]:
    """What the files of `folder` say of the task, oldest first."""
    names = (str(task).encode(), task.hex.encode())
    own = list(_matching(folder, names))
    requests = {line.request.encode() for line in own if line.request}
    near = _matching(folder, requests) if requests else ()
    return sorted({*own, *(line for line in near if line.request.encode() in requests)})


def _matching(folder: Path, words: Iterable[bytes]) -> Iterator[LogLine]:
    """Lines that contain one of `words`; the bytes are searched first, because logs are large."""
    searched = tuple(words)
    for file in sorted([*folder.glob("*.log"), *folder.glob("*.log.1")]):
        process = file.name.removesuffix(".1").removesuffix(".log")
        with file.open("rb") as lines:
            for place, raw in enumerate(lines):
                if any(word in raw for word in searched):
                    yield _parsed(raw.decode(errors="replace").rstrip("\n"), process, place)


def _parsed(raw: str, process: str, place: int) -> LogLine:
    try:
        entry = json.loads(raw)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        return LogLine("", process, place, raw)
    return LogLine(
        str(entry.get("timestamp", "")), process, place, _sentence(entry), str(entry.get("request_id") or "")
    )


def _sentence(entry: Mapping[str, Any]) -> str:
    """Level where it matters, event, then the fields that have a value."""
    level = str(entry.get("level", "")).lower()
    fields = {name: value for name, value in entry.items() if name not in _SHOWN_APART and value not in _NO_VALUE}
    words = [level.upper()] if level not in ("", "info", "debug") else []
    words += [str(entry.get("event", "")), *(f"{name}={_short(value)}" for name, value in fields.items())]
    text = " ".join(words)
    if trace := entry.get("exception"):
        text += "\n" + textwrap.indent(str(trace), "    ")
    return text


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def printed(lines: Sequence[LogLine]) -> Iterator[str]:
    """One line each: the time, the process, the sentence."""
    width = max((len(line.process) for line in lines), default=0)
    for line in lines:
        time = line.at[:23].replace("T", " ") or "without a time"
        yield f"{time:23}  {line.process:{width}}  {line.text}"


def main(argv: Sequence[str]) -> int:
    """Entry point: 0 when the task was found, 1 when nothing was, 2 for what is no id."""
    task = parse_task(argv[0].strip()) if len(argv) == 1 else None
    if task is None:
        print("Say which task: make logs TASK=img..., with the id that the API gave.", file=sys.stderr)
        return 2
    folder = Path(os.environ.get("VAR_DIR") or "var") / "log"
    lines = lines_of(task, folder)
    if not lines:
        print(f"No line in {folder} names {argv[0]}. VAR_DIR chooses another run.", file=sys.stderr)
        return 1
    try:
        print("\n".join(printed(lines)), flush=True)
    except BrokenPipeError:  # `make logs ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
