"""What the commands write: results to stdout (text, or JSON with --json), everything else to stderr; and exit codes.

0  done
1  a task failed, was canceled or expired
2  the command was written wrong
3  not logged in, or the key may not do that
4  the server refused the request as it is
5  a limit of the plan
6  no answer from the server, or it broke
7  a file could not be read, written, or is not what the server says it is
8  the time given by --timeout ran out
130  interrupted
"""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Optional

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from imagegenx.errors import (
    ApiError,
    Archived,
    ConnectionFailed,
    Forbidden,
    HashMismatch,
    ImageGenXError,
    NotConfigured,
    RateLimited,
    ServerFault,
    TaskFailed,
    Unauthorised,
    WaitTimeout,
)

DONE, TASK_FAILED, USAGE, FILE_FAULT, INTERRUPTED = 0, 1, 2, 7, 130
# The first type that fits.
_EXIT_CODES = (
    ((TaskFailed,), TASK_FAILED),
    ((NotConfigured, Unauthorised, Forbidden), 3),
    ((RateLimited,), 5),
    ((ServerFault, ConnectionFailed), 6),
    ((ApiError,), 4),
    ((HashMismatch, Archived, OSError), FILE_FAULT),
    ((WaitTimeout,), 8),
)


class Interrupted(ImageGenXError):
    """Ctrl-C, or SIGTERM."""


class Writer:
    """Where a process writes. `as_json` is set by the option."""

    def __init__(self) -> None:
        self.as_json = False
        self.console = Console(highlight=False, soft_wrap=True)
        self.notes = Console(stderr=True, highlight=False, soft_wrap=True)

    @property
    def shows_progress(self) -> bool:
        """Bars only where somebody looks at them."""
        return self.notes.is_terminal and not self.as_json

    def result(self, data: Any, lines: Iterable[str] = ()) -> None:
        """The result: `data` as JSON, or the lines."""
        if self.as_json:
            sys.stdout.write(json.dumps(data, ensure_ascii=False, default=dict) + "\n")
        else:
            sys.stdout.writelines(f"{line}\n" for line in lines)

    def table(self, data: Any, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """The result: `data` as JSON, or a table; without a terminal, lines with tabs."""
        if self.as_json or not self.console.is_terminal:
            return self.result(data, ("\t".join(_cell(cell) for cell in row) for row in rows))
        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*(escape(_cell(cell)) for cell in row))
        return self.console.print(table)

    def note(self, text: str) -> None:
        """For people."""
        self.notes.print(text, markup=False)

    def error(self, error: BaseException) -> int:
        """Write the error; its exit code."""
        code = exit_code(error)
        if self.as_json:
            self.result({"error": error_body(error), "exit_code": code})
        self.note(f"error: {error}")
        return code


def _cell(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def exit_code(error: BaseException) -> int:
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        return INTERRUPTED
    return next((code for kinds, code in _EXIT_CODES if isinstance(error, kinds)), FILE_FAULT)


def error_body(error: BaseException) -> dict[str, Any]:
    """An error for programs."""
    body: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, ApiError):
        body.update(message=error.message, code=error.code, status=error.status, request_id=error.request_id)
        body["faults"] = [vars(fault) for fault in error.faults]
    if isinstance(error, (ApiError, Archived)):
        body["retry_after"] = error.retry_after
    if isinstance(error, TaskFailed):
        body.update(code=error.code, task=error.task.raw)
    return body


output = Writer()  # of this process


def _set_json(value: bool) -> bool:
    output.as_json = output.as_json or value
    return value


Json = Annotated[bool, typer.Option("--json", callback=_set_json, help="Write the result as JSON.")]
Url = Annotated[Optional[str], typer.Option("--url", help="The server, instead of IMAGEGENX_URL.")]
