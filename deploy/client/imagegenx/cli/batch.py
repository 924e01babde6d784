"""The command batch."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Callable, Optional

import typer

from imagegenx import AsyncClient, Retries
from imagegenx.account import find_account
from imagegenx.cli.batch_journal import Journal
from imagegenx.cli.batch_rows import read_rows
from imagegenx.cli.batch_run import BatchRun, RunOptions, Summary
from imagegenx.cli.following import progress
from imagegenx.cli.making import parameter
from imagegenx.cli.output import TASK_FAILED, Json, Url, output

_SHOWN_FAULTS = 20
# A run of hours sits out a restart of the server: about two minutes.
_PATIENT = Retries(most=9)


def batch(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV with a header, or JSON lines.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for pictures and journal.")] = Path(),
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an earlier run stopped.")] = False,
    parallel: Annotated[int, typer.Option("--parallel", "-p", min=1, max=100, help="Tasks at a time.")] = 8,
    param: Annotated[
        Optional[list[str]], typer.Option("--param", help="For every row that does not say it: NAME=VALUE.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Also rows that failed before.")] = False,
    resend_unsure: Annotated[
        bool, typer.Option("--resend-unsure", help="Also rows whose request was lost more than 23 h ago.")
    ] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Make the pictures of many rows. A run that stopped, in whatever way, goes on with --resume."""
    common = dict(parameter(text) for text in param or ())
    total = sum(1 for _ in read_rows(file, common))  # a fault in the file stops here, before anything is made
    options = RunOptions(out, parallel, retry_failed, resend_unsure)
    summary = asyncio.run(_run(file, common, total, options, resume, url))
    _write(summary, total)


async def _run(
    file: Path, common: dict[str, Any], total: int, options: RunOptions, resume: bool, url: Optional[str]
) -> Summary:
    account = find_account(url)
    with Journal(options.folder, account, resume=resume) as journal, _bar(total) as on_row:
        async with AsyncClient(account.url, account.key, retries=_PATIENT) as client:
            return await BatchRun(client, journal, options, on_row).run(read_rows(file, common))


@contextmanager
def _bar(total: int) -> Iterator[Callable[[Summary], None]]:
    with progress() as shown:
        line = shown.add_task("", total=total)

        def on_row(summary: Summary) -> None:
            count = summary.made + summary.there + len(summary.failed) + len(summary.unsure)
            text = f"{count} of {total}" + (f", {len(summary.failed)} failed" if summary.failed else "")
            shown.update(line, completed=count, description=text)

        yield on_row


def _write(summary: Summary, total: int) -> None:
    failed = [{"row": number, "code": code, "message": message} for number, code, message in sorted(summary.failed)]
    data = {"rows": total, "made": summary.made, "there": summary.there, "failed": failed, "unsure": summary.unsure}
    line = f"{total} rows: {summary.made} made, {summary.there} there already, {len(failed)} failed"
    unsure = f", {len(summary.unsure)} unsure (--resend-unsure)" if summary.unsure else ""
    output.result(data, [line + unsure])
    for fault in failed[:_SHOWN_FAULTS]:
        output.note(f"row {fault['row']}: {fault['code']}: {fault['message']}")
    if len(failed) > _SHOWN_FAULTS:
        output.note(f"... and {len(failed) - _SHOWN_FAULTS} more")
    if failed or summary.unsure:
        raise typer.Exit(TASK_FAILED)
