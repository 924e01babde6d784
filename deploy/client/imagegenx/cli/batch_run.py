"""Runs the rows of a batch, some at a time, and writes to the journal what happens."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from imagegenx import AsyncClient, Task
from imagegenx.cli.batch_journal import Journal, RowState
from imagegenx.cli.batch_rows import Row
from imagegenx.cli.output import INTERRUPTED, Interrupted
from imagegenx.errors import (
    ApiError,
    Archived,
    Forbidden,
    HashMismatch,
    ImageGenXError,
    RateLimited,
    ServerFault,
    Unauthorised,
)
from imagegenx.files import slug

LONGEST_LIMIT_S = 600.0  # a limit that lasts longer (a day's quota) ends the run
_PREFER_WAIT_S = 5  # a task that ends so soon needs no second request
_CANCEL_S = 10.0
# Every row would meet these: they end the run. Anything else that the server refuses is the row's own.
_OF_THE_RUN = (Unauthorised, Forbidden, RateLimited, ServerFault)


@dataclass
class Summary:
    """`failed` and `unsure`: number of the row, code, message."""

    made: int = 0
    there: int = 0
    failed: list[tuple[int, str, str]] = field(default_factory=list)
    unsure: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class RunOptions:
    """`retry_failed`: rows that failed in an earlier run are made anew. `resend_unsure`: also those whose request may
    have been carried out.
    """

    folder: Path
    parallel: int = 8
    retry_failed: bool = False
    resend_unsure: bool = False


class BatchRun:
    """`on_row` is called after every row."""

    def __init__(
        self, client: AsyncClient, journal: Journal, options: RunOptions, on_row: Callable[[Summary], None]
    ) -> None:
        self._client, self._journal, self._options, self._on_row = client, journal, options, on_row
        self.summary = Summary()
        self._stopped = False

    async def run(self, rows: Iterator[Row]) -> Summary:
        """Until every row has ended. Raises Interrupted after Ctrl-C, when the open tasks are canceled."""
        workers = [asyncio.ensure_future(self._work(rows)) for _ in range(self._options.parallel)]

        def stop() -> None:
            if self._stopped:
                os._exit(INTERRUPTED)  # asked twice; the journal has everything
            self._stopped = True
            for worker in workers:
                worker.cancel()

        _on_interrupt(stop)
        try:
            await asyncio.gather(*workers)
        except asyncio.CancelledError:
            await asyncio.gather(*workers, return_exceptions=True)
            raise Interrupted("interrupted; the open tasks were canceled. Go on with --resume.") from None
        except BaseException:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            raise
        return self.summary

    async def _work(self, rows: Iterator[Row]) -> None:
        for row in rows:  # shared by all workers: each takes the next
            await self._run_row(row)
            self._on_row(self.summary)

    async def _run_row(self, row: Row) -> None:
        before = self._journal.state(row.key)
        if before.state == "done" and all((self._options.folder / name).is_file() for name in before.files):
            self.summary.there += 1
            return
        if before.state == "failed" and not self._options.retry_failed:
            self.summary.failed.append((row.number, "failed_before", "It failed in an earlier run (--retry-failed)."))
            return
        if before.unsure and not self._options.resend_unsure:
            self.summary.unsure.append(row.number)
            return
        try:
            await self._make(row, before)
        except (HashMismatch, Archived) as error:  # the task is made: the next run fetches its pictures
            self.summary.failed.append((row.number, type(error).__name__, str(error)))
        except ApiError as error:
            if isinstance(error, _OF_THE_RUN):
                raise
            self._fail(row, error.code, str(error))
        except ImageGenXError as error:
            if type(error) is not ImageGenXError:
                raise
            self._fail(row, "picture", str(error))  # a picture of the row can't be read

    async def _make(self, row: Row, before: RowState) -> None:
        attempt, task_id = before.attempt, before.task_id
        if before.state in ("dropped", "failed") or before.unsure:
            attempt, task_id = attempt + 1, ""
        task = await self._finished(row, attempt, task_id)
        if task_id and not task.succeeded and task.status != "failed":  # ended between the runs
            attempt += 1
            task = await self._finished(row, attempt, "")
        if task.succeeded:
            self._journal.done(row.key, await self._save(row, task))
            self.summary.made += 1
        elif task.status == "failed":
            self._fail(row, *((task.error.code, task.error.message) if task.error else ("failed", "It failed.")))
        else:
            self._journal.dropped(row.key)
            self.summary.failed.append((row.number, task.status, f"The task was {task.status}."))

    async def _finished(self, row: Row, attempt: int, task_id: str) -> Task:
        """The row's task when it has ended; begun, if there is no `task_id`. When the run is stopped it is canceled."""
        if not task_id:
            sending = asyncio.ensure_future(self._submit(row, attempt))
            try:
                task = await asyncio.shield(sending)
            except asyncio.CancelledError:
                with suppress(Exception):  # without an answer in time, the next run asks for it by its key
                    await self._cancel(row, (await asyncio.wait_for(sending, _CANCEL_S)).task_id)
                raise
            if task.ended and not task.enlarging:
                return task
            task_id = task.task_id
        try:
            return await self._client.follow(task_id)
        except asyncio.CancelledError:
            await self._cancel(row, task_id)
            raise

    async def _cancel(self, row: Row, task_id: str) -> None:
        """Only after Ctrl-C; when the run ends with an error, its tasks go on, and the next run finds them."""
        if self._stopped:
            with suppress(ImageGenXError, asyncio.TimeoutError):
                await asyncio.wait_for(self._client.cancel(task_id), _CANCEL_S)
                self._journal.dropped(row.key)

    async def _submit(self, row: Row, attempt: int) -> Task:
        self._journal.sending(row.key, attempt)
        key = self._journal.idempotency_key(row.key, attempt)
        fields: dict[str, Any] = {**row.fields, "idempotency_key": key, "prefer_wait": _PREFER_WAIT_S}
        while True:
            try:
                task: Task = await getattr(self._client, row.kind)(**fields, **row.pictures)
                break
            except RateLimited as error:
                if (error.retry_after or 0) > LONGEST_LIMIT_S:
                    raise
                await asyncio.sleep(error.retry_after or 1)
        self._journal.made(row.key, task.task_id)
        return task

    async def _save(self, row: Row, task: Task) -> list[str]:
        start = f"{row.number:05d}-{slug(row.name or task.text)}-{row.key[:8]}"
        names = [f"{start}-{one.index}.{one.format}" for one in task.outputs]
        for one, name in zip(task.outputs, names):
            await self._client.save_as(task, self._options.folder / name, one.index)
        return names

    def _fail(self, row: Row, code: str, message: str) -> None:
        self._journal.failed(row.key, code, message)
        self.summary.failed.append((row.number, code, message))


def _on_interrupt(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))
