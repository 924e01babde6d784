"""Waiting for tasks before a person: bars, and Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Callable

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from imagegenx import Client, Event, Retries, Task
from imagegenx.cli.output import Interrupted, output
from imagegenx.errors import ImageGenXError


def opened(url: str | None) -> Client:
    """A client for one command: somebody waits for it, so it gives up after some seconds."""
    return Client(url, retries=Retries(most=3))


def finished(client: Client, task: Task, timeout: float | None) -> Task:
    """The task when it has ended, in whatever way. Ctrl-C cancels it. Raises WaitTimeout, Interrupted."""
    try:
        with bar(task) as on_event:
            ended = client.follow(task, timeout, on_event)
    except KeyboardInterrupt:
        raise cancelled(client, task) from None
    for warning in ended.warnings:
        output.note(f"warning: {warning}")
    return ended


def submitted(make: Callable[[], Task], client: Client) -> Task:
    """The task that `make` begins. `make` sends the same Idempotency-Key each time: after Ctrl-C it is sent again to
    learn which task to cancel.
    """
    try:
        return make()
    except KeyboardInterrupt:
        raise cancelled(client, make()) from None


def cancelled(client: Client, task: Task) -> Interrupted:
    """Cancel the task; the error that says so."""
    try:
        client.cancel(task)
    except ImageGenXError as error:
        return Interrupted(f"interrupted; {task.task_id} could not be canceled: {error}")
    return Interrupted(f"interrupted; {task.task_id} was canceled")


@contextmanager
def bar(task: Task) -> Iterator[Callable[[Event], None]]:
    """A bar that the events move."""
    with progress() as shown:
        line = shown.add_task("queued", total=100)

        def on_event(event: Event) -> None:
            data = event.data
            if event.kind in ("progress", "task"):
                shown.update(line, completed=data.get("progress") or 0)
            if event.kind == "enlarging":
                shown.update(line, description="enlarging", completed=data.get("progress") or 0)
            if "status" in data:
                place = f", number {data['position']} in line" if data.get("position") else ""
                shown.update(line, description=f"{data['status']}{place}")

        yield on_event


def progress() -> Progress:
    """Bars on stderr, where somebody looks at them."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    return Progress(
        *columns, TimeElapsedColumn(), console=output.notes, transient=True, disable=not output.shows_progress
    )


def terminate_as_interrupt() -> None:
    """SIGTERM is taken as Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
