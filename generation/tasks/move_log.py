"""What is written of each move of a task: one log line, the metrics, and with traces on the spans that a row's times
tell. All are made here, so that none is missing.
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.utils import timezone

from generation.queue.values import size_class
from generation.tasks.models import TERMINAL, Status, Task
from generation.tasks.reasons import Code, Reason
from imagegenx_site import metrics
from imagegenx_site.tracing import spans
from imagegenx_site.tracing.requests import note_tasks
from imagegenx_site.tracing.values import TaskSpan, root_of

COLUMNS: Final = """id, status, user_id, kind, model_key, width, height, priority, attempt, worker, created_at,
    started_at, updated_at, error_code, history->-1->>'code', (history->-2->>'at')::timestamptz"""
_ENDED_WAITING: Final = (Status.EXPIRED, Status.CANCELLED, Status.FAILED)
_log = logging.getLogger("imagegenx.tasks")
for _code in Code:
    metrics.REQUEUES.labels(_code)  # from 0 on: of a series that begins with its first event nobody sees that event


@dataclass(frozen=True)
class Move:
    """A row just after a move: the values of COLUMNS."""

    task_id: UUID
    to: str
    user: int
    kind: str
    model: str
    width: int
    height: int
    priority: int
    attempt: int
    worker: str
    created_at: datetime
    started_at: datetime | None
    moved_at: datetime
    error_code: str
    code: str | None
    before: datetime | None


def submitted(tasks: list[Task]) -> None:
    """One line for each new row, after the commit."""
    note_tasks(task.id for task in tasks)
    for task in tasks:
        asked = task.parameters
        size = size_class(task.width, task.height)
        metrics.SUBMITTED.labels(task.model_key, task.kind, f"P{task.priority}", size).inc()
        fields = {
            "task_id": str(task.id),
            "user": task.user_id,
            "kind": task.kind,
            "model": task.model_key,
            "size": f"{task.width}x{task.height}",
            "class": f"P{task.priority}",
            "steps": asked.steps,
            "images": asked.num_images,
            "loras": [choice.name for choice in asked.loras],
            "postprocess": sorted(asked.postprocess),
            "batch": str(task.batch_id) if task.batch_id else None,
        }
        _log.info("task submitted", extra=fields)


def record(move: Move, reason: Reason | None) -> None:
    """`reason`: where the caller gave one; its sentence is for people and stays in the row."""
    code = (str(reason.code) if reason else None) or move.code or move.error_code or None
    seconds = (move.moved_at - (move.before or move.created_at)).total_seconds()
    fields = {
        "task_id": str(move.task_id),
        "to": move.to,
        "user": move.user,
        "kind": move.kind,
        "model": move.model,
        "size": f"{move.width}x{move.height}",
        "class": f"P{move.priority}",
        "attempt": move.attempt,
        "worker": move.worker or None,
        "duration_s": round(max(0.0, seconds), 3),
        "age_s": round(max(0.0, (move.moved_at - move.created_at).total_seconds()), 3),
        "code": code,
    }
    _log.info("task %s", move.to, extra=fields)
    _count(move, code or "")
    if spans.ENABLED:
        _record_spans(move, code or "")


def _count(move: Move, code: str) -> None:
    """`code` is one of ours: of a reason or of an error."""
    metrics.MOVES.labels(move.to).inc()
    if move.to in TERMINAL:
        ended = "" if move.to == Status.SUCCEEDED else code
        metrics.OUTCOMES.labels(move.model, move.kind, f"P{move.priority}", move.to, ended).inc()
    elif move.to == Status.QUEUED:
        metrics.REQUEUES.labels(code).inc()
    _observe_wait(move)


def _record_spans(move: Move, code: str) -> None:
    """The wait that a claim ends; the whole task at its end."""
    moved = move.moved_at.timestamp()
    common: dict[str, str | int] = {
        "model": move.model,
        "kind": move.kind,
        "size": f"{move.width}x{move.height}",
        "class": f"P{move.priority}",
        "attempt": move.attempt,
    }
    if move.to == Status.RUNNING:
        first = move.started_at is not None and move.started_at >= move.moved_at
        since = move.created_at if first else move.before or move.created_at
        spans.record(TaskSpan(move.task_id, "queue", since.timestamp(), moved, common | {"worker": move.worker}))
    elif move.to in TERMINAL:
        error = code or str(move.to) if move.to in (Status.FAILED, Status.EXPIRED) else ""
        fields = common | {"user": move.user, "status": str(move.to), "code": code}
        root = root_of(move.task_id)
        spans.record(TaskSpan(move.task_id, "task", move.created_at.timestamp(), moved, fields, error, span_id=root))


def _observe_wait(move: Move) -> None:
    """Once for each task: when it is claimed for the first time, or ends without that."""
    if move.to == Status.RUNNING and move.started_at is not None and move.started_at >= move.moved_at:
        outcome = "claimed"
    elif move.to in _ENDED_WAITING and move.started_at is None:
        outcome = str(move.to)
    else:
        return
    waited = (move.started_at or timezone.now()) - move.created_at
    metrics.WAIT.labels(f"P{move.priority}", outcome).observe(max(0.0, waited.total_seconds()))
