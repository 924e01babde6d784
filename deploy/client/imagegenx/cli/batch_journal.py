"""What a batch has done so far, in `.imagegenx-batch.jsonl` of its folder: one JSON object a line, only ever appended.

{"run": "…", "url": "…", "key_id": "…", "version": 1}                  first line
{"row": "…", "state": "sending", "attempt": 0, "at": 1764200000.0}     before the request
{"row": "…", "state": "made", "task_id": "img…"}                       the server has the task
{"row": "…", "state": "done", "files": ["…"]}                          its pictures are saved
{"row": "…", "state": "failed", "code": "…", "message": "…"}           it will not be tried again by itself
{"row": "…", "state": "dropped"}                                       canceled or expired: the next run tries again

A row's Idempotency-Key is made of the run, the row and the attempt: a request whose answer was lost is sent again with
the same key and gives the same task. The server keeps keys for a day. A line that was being written when the
process was killed is cut off.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from imagegenx.account import Account
from imagegenx.errors import ImageGenXError

NAME = ".imagegenx-batch.jsonl"
KEY_LIFE_S = 23 * 3600  # the server keeps an Idempotency-Key for 24 h
_VERSION = 1


class JournalFault(ImageGenXError):
    """The folder's journal does not allow this run."""


@dataclass
class RowState:
    """`task_id`: of the present attempt. `unsure`: it was sent, no answer is known, and its key is too old to ask."""

    attempt: int = 0
    state: str = ""
    task_id: str = ""
    files: tuple[str, ...] = ()
    unsure: bool = False


class Journal:
    """The journal of one folder, held by one process at a time."""

    def __init__(self, folder: Path, account: Account, *, resume: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._states = folder / NAME, dict[str, RowState]()
        existed = self._path.exists() and self._path.stat().st_size > 0
        if existed and not resume:
            raise JournalFault(f"{folder} has the journal of an earlier run: go on with --resume, or choose another.")
        self._file = self._path.open("ab+", buffering=0)
        _lock(self._file.fileno(), folder)
        self.run = ""
        self._load(account)
        if not self.run:
            self.run = secrets.token_hex(6)
            self._append({"run": self.run, "url": account.url, "key_id": account.key_id, "version": _VERSION})
            os.fsync(self._file.fileno())

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def state(self, row: str) -> RowState:
        """What earlier runs left of a row."""
        return self._states.get(row) or RowState()

    def idempotency_key(self, row: str, attempt: int) -> str:
        return f"{self.run}-{row}-{attempt}"

    def sending(self, row: str, attempt: int) -> None:
        self._append({"row": row, "state": "sending", "attempt": attempt, "at": round(time.time(), 1)})

    def made(self, row: str, task_id: str) -> None:
        self._append({"row": row, "state": "made", "task_id": task_id})

    def done(self, row: str, files: list[str]) -> None:
        self._append({"row": row, "state": "done", "files": files})

    def failed(self, row: str, code: str, message: str) -> None:
        self._append({"row": row, "state": "failed", "code": code, "message": message[:500]})

    def dropped(self, row: str) -> None:
        self._append({"row": row, "state": "dropped"})

    def _append(self, line: dict[str, Any]) -> None:
        """One write to the file: what is written stays when the process is killed."""
        self._file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")

    def _load(self, account: Account) -> None:
        self._file.seek(0)
        end, key_id = 0, account.key_id
        for line in iter(self._reader().readline, b""):
            if not line.endswith(b"\n"):
                break
            end += len(line)
            try:
                body = json.loads(line)
            except ValueError as error:
                raise JournalFault(f"{self._path} is damaged at byte {end - len(line)}.") from error
            if "run" in body:
                key_id = self._begin(body, account)
            else:
                self._take(body, same_key=key_id == account.key_id)
        self._file.truncate(end)

    def _reader(self) -> Any:
        return open(self._file.fileno(), "rb", closefd=False)

    def _begin(self, body: dict[str, Any], account: Account) -> str:
        if body.get("version") != _VERSION:
            raise JournalFault(f"{self._path} was written by another version of this program.")
        if body["url"] != account.url:
            raise JournalFault(f"{self._path} is of a run on {body['url']}; this is {account.url}.")
        self.run = str(body["run"])
        return str(body["key_id"])

    def _take(self, body: dict[str, Any], same_key: bool) -> None:
        state = self._states.setdefault(body["row"], RowState())
        state.state = body["state"]
        if state.state == "sending":
            state.attempt, state.task_id = body["attempt"], ""
            state.unsure = not same_key or time.time() - body["at"] > KEY_LIFE_S
        elif state.state == "made":
            state.task_id, state.unsure = body["task_id"], False
        elif state.state == "done":
            state.files = tuple(body["files"])
        else:
            state.unsure = False


def _lock(descriptor: int, folder: Path) -> None:
    """Held until the file is closed, or the process ends in whatever way. Not on Windows."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise JournalFault(f"Another run is at work in {folder}.") from error
