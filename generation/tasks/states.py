"""The states of a task, the legal moves between them, and the only functions that make one.

                 requeue
              +-----------+
              v           |
    (new) -> queued -> running -> generated -> processed -> stored -> succeeded
              |  |      |   ^|     ^  |   |        |
              |  |      |   +'     |  |   |        |        running -> running: claimed anew after its worker died
              |  |      +-------------+------------+------> failed | cancelled
              |  +----------------------------------------> failed | cancelled
              +---------------------------+---------------> expired
                                   |
    (new, without a model) --------+   its picture came with the request; no GPU sees it. Expires until a stage begins

Every move is one compare-and-set UPDATE: it names the states it may leave and the fence (worker and attempt while
running, the stage's owner afterwards), and its answer says whether this caller made it. No row moved means that
somebody else won; that is not an error. Each move appends to the row's history in the same statement and publishes
its event after the commit.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from generation.catalogue.models import ImageModel
from generation.queue.values import BatchKey
from generation.tasks import events, move_log, outbox
from generation.tasks.models import OWNER_GIVEN_UP, OWNER_WAITING, Status, Task
from generation.tasks.reasons import Code, Reason
from generation.tasks.stages import STAGES, Stage
from generation.webhooks import events as webhook_events
from imagegenx_site import caches
from imagegenx_site.row_statements import AnyOf, Sql, row_of, update

MOVES: Final[Mapping[str, frozenset[str]]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELLED, Status.EXPIRED, Status.FAILED}),
    Status.RUNNING: frozenset({Status.RUNNING, Status.QUEUED, Status.GENERATED, Status.CANCELLED, Status.FAILED}),
    Status.GENERATED: frozenset({Status.PROCESSED, Status.CANCELLED, Status.FAILED, Status.EXPIRED}),
    Status.PROCESSED: frozenset({Status.STORED, Status.CANCELLED, Status.FAILED}),
    Status.STORED: frozenset({Status.SUCCEEDED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
    Status.EXPIRED: frozenset(),
}


# Clients see no difference between the states before and after: no poll is made anew, nothing is published.
UNSEEN: Final = frozenset({Status.PROCESSED, Status.STORED})


_NOT_BEGUN: Final = Sql("status = 'queued' OR started_at IS NULL")  # a claim and a stage's lease set `started_at`


def first_state(task: Task) -> None:
    """The state in which a new row is written, and its first entry of history."""
    if task.model_id is None:
        task.status, task.generated_at = Status.GENERATED, task.created_at
    else:
        task.status = Status.QUEUED
    task.history = [{"at": task.created_at.isoformat(timespec="milliseconds"), "to": str(task.status)}]


class IllegalMove(Exception):
    """A caller asked for a move that the table does not have: a fault in our code."""


def _sources(to: str, among: Sequence[str] | None = None) -> list[str]:
    sources = [state for state, targets in MOVES.items() if to in targets]
    if among is None:
        return sources
    illegal = set(among) - set(sources)
    if illegal or not among:
        raise IllegalMove(f"no move from {sorted(illegal)} to {to}")
    return list(among)


def _appended(entry: dict[str, Any]) -> Sql:
    stamped = {"at": timezone.now().isoformat(timespec="milliseconds"), **entry}
    return _with("history", stamped)


def _with(column: str, entry: object) -> Sql:
    """A JSON list with one entry more."""
    return Sql(f'"{column}" || %s::jsonb', (json.dumps([entry]),))


def _move(
    task_id: UUID,
    to: str,
    *,
    among: Sequence[str] | None = None,
    fence: Mapping[str, object] = MappingProxyType({}),
    conditions: Sequence[Sql] = (),
    reason: Reason | None = None,
    **changes: Any,
) -> bool:
    """The only function but `claim` that changes a status: when the row is in a legal state, has the values of the
    fence, and the conditions hold.
    Answers whether this call changed it.
    """
    entry = {"to": str(to)} | (reason.entry() if reason else {})
    if to not in UNSEEN:
        caches.tasks().block(str(task_id))  # no poll may show the old state after somebody saw the new one
    where = {"id": task_id, "status": AnyOf(tuple(map(str, _sources(to, among)))), **fence}
    changes |= {"status": to, "updated_at": timezone.now(), "history": _appended(entry)}
    moved = update(Task, changes, where, *conditions, returning=move_log.COLUMNS)
    for row in moved:
        transaction.on_commit(lambda row=row: _publish_move(move_log.Move(*row), reason))  # type: ignore[misc]
    return bool(moved)


def _publish_move(move: move_log.Move, reason: Reason | None = None) -> None:
    """After the commit."""
    move_log.record(move, reason)
    if move.to not in UNSEEN:
        caches.tasks().invalidate(str(move.task_id), also=lambda pipe: events.add_status(pipe, move.task_id, move.to))


# ---- on the GPU worker ---------------------------------------------------------------------------------------------


def claim(task_ids: Sequence[UUID], worker: str) -> list[Task]:
    """queued or running -> running for all ids that are still to be run, in one statement.

    Counts the attempt before the work, so that a task which kills its worker does not come back for ever. Ids not
    returned were cancelled, expired, finished or are unknown: the caller releases their buffer entries.
    """
    sql = """
        UPDATE generation_task SET status = 'running', attempt = attempt + 1, worker = %(worker)s, progress = 0,
               started_at = COALESCE(started_at, now()), updated_at = now(),
               history = history || jsonb_build_array(jsonb_build_object(
                   'at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"+00:00"'),
                   'to', 'running', 'attempt', attempt + 1, 'worker', %(worker)s::text))
        WHERE id = ANY(%(ids)s::uuid[]) AND status = ANY(%(sources)s) AND NOT cancel_requested
              AND (status = 'running' OR expires_at > now())
        RETURNING """
    sources = [str(state) for state in _sources(Status.RUNNING)]
    caches.tasks().block(*map(str, task_ids))
    with connection.cursor() as cursor:
        cursor.execute(
            sql + move_log.COLUMNS, {"worker": worker, "ids": [str(i) for i in task_ids], "sources": sources}
        )
        won = [move_log.Move(*row) for row in cursor.fetchall()]
    for move in won:
        transaction.on_commit(lambda move=move: _publish_move(move))  # type: ignore[misc]
    mine = Task.objects.filter(
        pk__in=[move.task_id for move in won], status=Status.RUNNING, worker=worker
    )  # not: claimed anew by another meanwhile
    return list(mine.select_related("model__fallback", "batch"))


def requeue(task_id: UUID, *, worker: str, attempt: int, reason: Reason, count_attempt: bool = True) -> bool:
    """running -> queued: the worker stops, evicts paused work, fails in inference, loses its device or cannot store
    the pictures; or the reconciler finds that it is lost.

    With `count_attempt` false the claim is not counted against the task, because the task did nothing wrong.
    """
    changes: dict[str, Any] = {} if count_attempt else {"attempt": Sql('"attempt" - 1')}
    held = {"worker": worker, "attempt": attempt}
    return _move(
        task_id, Status.QUEUED, among=[Status.RUNNING], fence=held, reason=reason, worker="", progress=0, **changes
    )


def fall_back(task: Task, model: ImageModel, *, worker: str, attempt: int, cause: str) -> bool:
    """running -> queued on another model, after the task's own failed it. The caller enqueues it under its new key."""
    held = {"worker": worker, "attempt": attempt}
    changes: dict[str, Any] = {"model": model, "model_key": model.key}
    changes["batch_key"] = str(BatchKey(model.key, task.width, task.height))
    reason = Reason(Code.FELL_BACK, f"falls back to {model.name}", model=model.name, cause=cause)
    return _move(
        task.id, Status.QUEUED, among=[Status.RUNNING], fence=held, reason=reason, worker="", progress=0, **changes
    )


def report_progress(task_id: UUID, percent: int, *, worker: str, attempt: int) -> None:
    """Write the progress (0 to 100) of a running task for those who poll; not a move, and lost without harm."""
    rows = Task.objects.filter(pk=task_id, status=Status.RUNNING, worker=worker, attempt=attempt)
    rows.update(progress=percent)
    caches.tasks().invalidate(str(task_id))


def mark_generated(task_id: UUID, *, worker: str, attempt: int, warnings: Sequence[str] = ()) -> bool:
    """running -> generated: the lossless pictures are durable, the GPU is done with the task."""
    held = {"worker": worker, "attempt": attempt}
    now = timezone.now()
    return _move(
        task_id, Status.GENERATED, fence=held, generated_at=now, progress=100, warnings=list(warnings), **_free()
    )


# ---- on the CPU and IO workers -------------------------------------------------------------------------------------


def take_stage(task_id: UUID, stage: Stage, owner: str, seconds: float) -> Task | None:
    """A lease on one stage of the task; None when it is not in that state, or somebody else works on it.

    A task whose cancel was asked for is cancelled here instead: before each stage, never in the middle of one.
    """
    free = Sql("stage_owner = '' OR stage_until <= %s OR stage_owner = %s", (timezone.now(), owner))
    taken = update(Task, _lease(owner, seconds), _leasable(stage) | {"id": task_id}, free)
    if not taken and stage.cancellable:
        cancel_if_requested(task_id, among=[stage.source])
    return row_of(Task, taken[0]) if taken else None


def take_same_work(task: Task, stage: Stage, owner: str, seconds: float, limit: int) -> list[Task]:
    """Leases on the same stage of up to `limit` waiting tasks with the same work: equal size and post-processing. None
    of a lower class: `task` would wait for it.

    Only what nobody works on, has not failed in this stage and is not being taken at this moment; the oldest first.
    """
    asked = task.parameters
    recipe = (asked.postprocess, asked.style_tone, asked.plan_watermark)
    equal = (str(stage.source), task.width, task.height, *(json.dumps(part) for part in recipe))
    values = (*equal, task.priority, task.pk, limit)
    taken = update(Task, _lease(owner, seconds), _leasable(stage), Sql(_SAME_WORK, values))
    return sorted((row_of(Task, columns) for columns in taken), key=lambda row: row.id)


# An array is made once: the rows of a bare IN (SELECT ... LIMIT) may be chosen again for each row that is looked at.
_SAME_WORK: Final = """id = ANY(ARRAY(
    SELECT id FROM generation_task
    WHERE status = %s AND width = %s AND height = %s AND params -> 'postprocess' = %s::jsonb
          AND params -> 'style_tone' = %s::jsonb AND params -> 'plan_watermark' = %s::jsonb
          AND priority <= %s AND stage_owner = '' AND stage_attempts = 0 AND id <> %s
    ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED))"""


def _leasable(stage: Stage) -> dict[str, object]:
    """Which rows a lease may be taken on: not those whose cancel was asked for."""
    return {"status": str(stage.source)} | ({"cancel_requested": False} if stage.cancellable else {})


def _lease(owner: str, seconds: float) -> dict[str, object]:
    now = timezone.now()
    until = now + timedelta(seconds=seconds)
    return {
        "stage_owner": owner,
        "stage_until": until,
        "stage_attempts": Sql("stage_attempts + 1"),
        "started_at": Sql("COALESCE(started_at, %s)", (now,)),
        "updated_at": now,
    }


def release_stage(task_id: UUID, *, owner: str, next_at: datetime, reason: str) -> bool:
    """Give a stage up after a fault of ours; it may be tried again from `next_at` on (the reconciler sends it)."""
    changes = {"stage_owner": OWNER_WAITING, "stage_until": next_at, "updated_at": timezone.now()}
    changes["history"] = _appended({"stage_fault": reason[:300]})
    return bool(update(Task, changes, {"id": task_id, "stage_owner": owner}, returning="id"))


def renew_stage(owner: str, seconds: float) -> bool:
    """A longer lease on everything that `owner` holds; False when it holds nothing any more."""
    until = timezone.now() + timedelta(seconds=seconds)
    held = Q(stage_owner=owner, status__in=[stage.source for stage in STAGES])
    return bool(Task.objects.filter(held, stage_until__isnull=False).update(stage_until=until))


def end_enlargement(task_id: UUID, *, owner: str, warning: str = "") -> bool:
    """The enlargement of a succeeded task is done; with a warning for the client: it is given up. Written together
    with the rows of its webhooks, which the clock sends.
    """
    changes: dict[str, Any] = {
        "stage_owner": OWNER_GIVEN_UP if warning else "",
        "stage_until": None,
        "stage_attempts": 0,
    }
    if warning:
        changes["warnings"] = _with("warnings", warning)
    caches.tasks().block(str(task_id))
    with transaction.atomic():
        changes["updated_at"] = timezone.now()
        ended = update(Task, changes, {"id": task_id, "stage_owner": owner}, returning="id")
        if ended:
            outbox.write_delivery(task_id, webhook_events.UPDATED)
        transaction.on_commit(lambda: caches.tasks().invalidate(str(task_id)))
    return bool(ended)


def pass_on(task_id: UUID, stage: Stage, owner: str, seconds: float) -> bool:
    """The move that ends `stage`, and in the same statement the lease of the stage after it for the same owner, as its
    first try. False where the lease was lost, or a cancel was asked for: it ends the task before the next stage.
    """
    fence = {"stage_owner": owner, "cancel_requested": False}
    until = timezone.now() + timedelta(seconds=seconds)
    held: dict[str, Any] = {"stage_until": until, "stage_attempts": 1}
    return _move(task_id, stage.target, among=[stage.source], fence=fence, **held, **_stamped(stage.target))


def mark_processed(task_id: UUID, *, owner: str) -> bool:
    """generated -> processed: the encoded pictures are durable beside the raw ones."""
    return _move(task_id, Status.PROCESSED, fence={"stage_owner": owner}, **_free())


def mark_stored(task_id: UUID, *, owner: str) -> bool:
    """processed -> stored: the pictures are in the store, verified, and have their rows."""
    return _move(task_id, Status.STORED, fence={"stage_owner": owner}, **_stamped(Status.STORED), **_free())


def mark_succeeded(task_id: UUID, *, owner: str) -> bool:
    """stored -> succeeded. Called in the transaction that writes the webhook's delivery row."""
    now = timezone.now()
    return _move(task_id, Status.SUCCEEDED, fence={"stage_owner": owner}, finished_at=now, **_free())


def _stamped(to: str) -> dict[str, Any]:
    """The time of the move, for a state that has a column for it."""
    return {"stored_at": timezone.now()} if to == Status.STORED else {}


def _free() -> dict[str, Any]:
    return {"stage_owner": "", "stage_until": None, "stage_attempts": 0}


# ---- by an operator -------------------------------------------------------------------------------------------------


def set_priority(task_id: UUID, priority: int) -> bool:
    """Another priority for a task that waits, in its row only; not a move. Answers whether it changed."""
    entry = Reason(Code.PRIORITY_CHANGED, f"an operator made it P{priority}").entry()
    caches.tasks().block(str(task_id))
    changes = {"priority": priority, "updated_at": timezone.now(), "history": _appended(entry)}
    where = {"id": task_id, "status": str(Status.QUEUED), "priority": Sql("<> %s", (priority,))}
    moved = update(Task, changes, where, returning="id")
    transaction.on_commit(lambda: caches.tasks().invalidate(str(task_id)))
    return bool(moved)


# ---- other ends ----------------------------------------------------------------------------------------------------


def fail(task_id: UUID, *, code: str, message: str, worker: str | None = None, attempt: int | None = None) -> bool:
    """Any open state but stored -> failed, with the reason that the client reads. With worker and attempt: only for
    that claim.
    """
    fence = {} if worker is None else {"worker": worker, "attempt": attempt}
    among = None if worker is None else [Status.RUNNING]
    reason = Reason(code, f"{code}: {message}")
    changes = {"error_code": code[:50], "error_message": message[:1000], "finished_at": timezone.now()}
    return _end(task_id, Status.FAILED, among=among, fence=fence, reason=reason, **changes)


def cancel_if_requested(task_id: UUID, among: Sequence[str] | None = None, **fence: Any) -> bool:
    """-> cancelled for a task whose cancel was asked for."""
    asked = {"cancel_requested": True, **fence}
    return _end(task_id, Status.CANCELLED, among=among, fence=asked, finished_at=timezone.now())


def request_cancel(task_id: UUID) -> bool:
    """Record a cancel request for an open task. One that nobody has begun is cancelled at once.

    Answers whether the task is still to be stopped elsewhere (running, or in a later stage).
    """
    now = timezone.now()
    stoppable = Task.objects.filter(pk=task_id, status__in=_sources(Status.CANCELLED))
    if not stoppable.update(cancel_requested=True, updated_at=now):
        return False
    asked, waiting = {"cancel_requested": True}, [Status.QUEUED, Status.GENERATED]
    return not _end(
        task_id, Status.CANCELLED, among=waiting, fence=asked, conditions=[_NOT_BEGUN], finished_at=timezone.now()
    )


def expire_due(since: UUID | None = None, limit: int = 500) -> list[UUID]:
    """-> expired for tasks from the id `since` on that nobody has begun for longer than their plan or deadline allows;
    the ids moved.
    """
    waiting = Q(status=Status.QUEUED) | Q(status=Status.GENERATED, started_at=None)
    due = Task.objects.filter(waiting, expires_at__lte=timezone.now()).order_by("id")
    due = due.filter(id__gte=since) if since else due
    moved = []
    for task_id in due.values_list("id", flat=True)[:limit]:
        message = "No worker was free before the task's deadline. Send it again, or with a later deadline."
        changes = {"error_code": "expired", "error_message": message, "finished_at": timezone.now()}
        due_now = [Sql("expires_at <= %s", (timezone.now(),)), _NOT_BEGUN]
        if _end(task_id, Status.EXPIRED, conditions=due_now, **changes):
            moved.append(task_id)
    return moved


def _end(task_id: UUID, to: str, **how: Any) -> bool:
    """An end other than success: moved together with the row of its webhook, so that both exist or neither."""
    with transaction.atomic():
        moved = _move(task_id, to, **how)
        if moved:
            outbox.write_delivery(task_id)
    return moved
