"""Commands for tasks that were made before: watch, cancel, history, zip."""

import re
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Optional

import typer

from imagegenx import Batch, Client, Task
from imagegenx.cli.following import bar, opened, progress
from imagegenx.cli.making import deliver
from imagegenx.cli.output import TASK_FAILED, Interrupted, Json, Url, output
from imagegenx.errors import TaskFailed, WaitTimeout

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_POLL_S = 1.0
Timeout = Annotated[Optional[float], typer.Option("--timeout", help="Seconds to wait at most.")]


def watch(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="A task, or a batch.")],
    out: Annotated[Optional[Path], typer.Option("-o", "--out", help="Save the pictures there.")] = None,
    timeout: Timeout = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Follow a task or a batch to its end. Ctrl-C stops watching, not the task."""
    with opened(url) as client:
        try:
            if task_id.startswith("bat"):
                return _watch_batch(client, task_id, timeout)
            with bar(client.task(task_id)) as on_event:
                task = client.follow(task_id, timeout, on_event)
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted; {task_id} goes on") from None
        if not task.succeeded:
            raise TaskFailed(task)
        if out is not None:
            return deliver(client, task, out)
        return output.result({"task": task.raw}, [f"{task.task_id} {task.status}"])


def _watch_batch(client: Client, batch_id: str, timeout: Optional[float]) -> None:
    end = time.monotonic() + timeout if timeout is not None else None
    batch = client.batch_status(batch_id)
    with progress() as shown:
        line = shown.add_task(batch.status, total=100)
        while not batch.ended:
            if end is not None and time.monotonic() >= end:
                raise WaitTimeout(batch_id)
            time.sleep(_POLL_S)
            batch = client.batch_status(batch_id)
            shown.update(line, description=batch.status, completed=batch.progress)
    output.result({"batch": batch.raw}, [_counts(batch)])
    if batch.status != "succeeded":
        raise typer.Exit(TASK_FAILED)


def _counts(batch: Batch) -> str:
    return f"{batch.batch_id} {batch.status}: " + ", ".join(f"{n} {name}" for name, n in batch.counts.items())


def cancel(
    ids: Annotated[list[str], typer.Argument(metavar="IDs...", help="Tasks or batches.")],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Cancel tasks and batches."""
    with opened(url) as client:
        done = [client.cancel_batch(one) if one.startswith("bat") else client.cancel(one) for one in ids]
    lines = [f"{one} {state.status}" for one, state in zip(ids, done)]
    output.result({"items": [state.raw for state in done]}, lines)


def history(
    since: Annotated[Optional[str], typer.Option("--since", help="Such as 30m, 2h, 2d, 1w, or 2026-11-20.")] = None,
    until: Annotated[Optional[str], typer.Option("--until")] = None,
    status: Annotated[Optional[str], typer.Option("--status")] = None,
    kind: Annotated[Optional[str], typer.Option("--kind")] = None,
    model: Annotated[Optional[str], typer.Option("--model", "-m")] = None,
    style: Annotated[Optional[str], typer.Option("--style", "-s")] = None,
    text: Annotated[Optional[str], typer.Option("--text", help="Text that the prompt contains.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1)] = 50,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Your tasks, newest first."""
    first, last = moment(since), moment(until)
    asked = {"status": status, "kind": kind, "model": model, "style": style, "text": text}
    filters = {name: value for name, value in asked.items() if value is not None}
    # The server's days are those of UTC; the moment within the first and last day is chosen here.
    filters.update({name: at.strftime("%Y-%m-%d") for name, at in (("since", first), ("until", last)) if at})
    found: list[Task] = []
    with opened(url) as client:
        for task in client.tasks(**filters):  # type: ignore[arg-type]  # the names are those of HistoryFilters
            at = datetime.fromisoformat(task.created_at) if task.created_at else None
            if at and last and at > last:
                continue
            if (at and first and at < first) or len(found) == limit:
                break
            found.append(task)
    columns = ("task", "created", "status", "kind", "text")
    rows = [(one.task_id, (one.created_at or "")[:19], one.status, one.kind, one.text[:60]) for one in found]
    output.table({"items": [task.raw for task in found]}, columns, rows)


def moment(text: Optional[str]) -> Optional[datetime]:
    """`2d`: so long ago; `2026-11-20`: its beginning; `2026-11-20T08:00`. Without a zone: UTC."""
    if text is None:
        return None
    ago = re.fullmatch(r"(\d{1,5})([mhdw])", text)
    if ago:
        return datetime.now(timezone.utc) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r}: write 30m, 2h, 2d, 1w or a day such as 2026-11-20") from None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def zip_(
    ids: Annotated[list[str], typer.Argument(metavar="IDs...", help="Tasks, or one batch.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The file.")] = Path("pictures.zip"),
    url: Url = None,
    as_json: Json = False,
) -> None:
    """The pictures of tasks, or of a batch, as a ZIP file."""
    with opened(url) as client:
        client.zip(ids, out)
    output.result({"file": str(out)}, [str(out)])
