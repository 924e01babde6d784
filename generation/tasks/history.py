"""Lists of tasks: newest first, bounded by days so that only their partitions are read, paged by a cursor."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet

from generation.accounts.models import User
from generation.tasks.access import may_see
from generation.tasks.models import Batch, Status, Task
from generation.tasks.presentation import PUBLIC_STATUS, JointStatus, public_status
from generation.tasks.sorting.picks import ALL_PICTURES, Picks
from imagegenx_site.errors import Fault, InvalidRequest, NotFound
from imagegenx_site.ids import first_id_of, from_public

LARGEST_PAGE: Final = 100
INNER_STATUS: Final[dict[str, tuple[Status, ...]]] = {
    word: tuple(status for status, public in PUBLIC_STATUS.items() if public == word)
    for word in dict.fromkeys(PUBLIC_STATUS.values())
}
OPEN: Final = "open"  # a filter's word for what has not ended
FILTERS: Final[dict[str, tuple[Status, ...]]] = {
    **INNER_STATUS,
    OPEN: (*INNER_STATUS["queued"], *INNER_STATUS["running"]),
}


@dataclass(frozen=True)
class Filters:
    """What a list is narrowed to; empty means: everything. Days are inclusive (UTC)."""

    first_day: date | None = None
    last_day: date | None = None
    status: str = ""
    kind: str = ""
    style: str = ""
    model: str = ""
    sides: tuple[int, int] | None = None
    text: str = ""
    batch: str = ""
    picks: Picks = ALL_PICTURES
    team: bool = False


@dataclass(frozen=True)
class Page:
    """Some tasks, and the cursor of the next ones ("" at the end)."""

    tasks: list[Task]
    next_cursor: str


def page(user: User, filters: Filters, *, limit: int, cursor: str = "") -> Page:
    """The tasks of the user (or the team) after the cursor. Raises InvalidRequest for a cursor that is none of ours."""
    rows = _of_days(filters)
    rows = rows.filter(user__team_id=user.team_id) if filters.team and user.team_id else rows.filter(user=user)
    rows = _narrowed(rows.filter(deleted_at=None), filters)
    if cursor:
        after = from_public(cursor)
        if after is None:
            raise InvalidRequest([Fault("cursor", "malformed", "Give the `next_cursor` of an earlier page.")])
        rows = rows.filter(id__lt=after)
    found = list(rows.order_by("-id")[: limit + 1])
    tasks = found[:limit]
    return Page(tasks, tasks[-1].public_id if len(found) > limit else "")


def _of_days(filters: Filters) -> QuerySet[Task]:
    """Bounded on both sides, so that neither other days nor the DEFAULT partition are read."""
    today = datetime.now(UTC).date()
    first = max(filters.first_day or date.min, today - timedelta(days=settings.HISTORY_DAYS))
    last = max(min(filters.last_day or today, today), first - timedelta(days=1))  # before the first: no rows
    return Task.objects.filter(id__gte=first_id_of(first), id__lt=first_id_of(last + timedelta(days=1)))


def _narrowed(rows: QuerySet[Task], filters: Filters) -> QuerySet[Task]:
    if filters.status:
        rows = rows.filter(_in_status(filters.status))
    for name in ("kind", "style"):
        wanted = getattr(filters, name)
        rows = rows.filter(**{name: wanted}) if wanted else rows
    if filters.model:
        rows = rows.filter(model__name=filters.model)
    if filters.sides:
        rows = rows.filter(width=filters.sides[0], height=filters.sides[1])
    if filters.text:
        rows = rows.filter(text__icontains=filters.text)
    if filters.batch:
        batch_id = from_public(filters.batch, "bat")
        rows = rows.filter(batch_id=batch_id) if batch_id else rows.none()
    return filters.picks.narrowed(rows)


def _in_status(word: str) -> Q:
    """As `public_status` says it: a task without a model that nobody has begun is queued."""
    found, not_begun = Q(status__in=FILTERS[word]), Q(status=Status.GENERATED, model=None, started_at=None)
    return found | not_begun if word == "queued" else found & ~not_begun if word == "running" else found


def find_batch(public_id: str, user: User) -> Batch:
    """The caller's batch, or a team-mate's. Raises NotFound."""
    batch_id = from_public(public_id, "bat")
    batch = Batch.objects.select_related("user").filter(pk=batch_id).first() if batch_id else None
    if batch is None or not may_see(batch, user):
        raise NotFound(f"There is no batch {public_id[:60]} of yours. Batch ids look like bat0198… (35 characters).")
    return batch


def tasks_of(batch: Batch) -> list[Task]:
    """The batch's tasks in the order of its texts. Their ids lie in the batch's day or the next."""
    day = timedelta(days=1)
    made = batch.created_at
    rows = Task.objects.filter(
        batch=batch, id__gte=first_id_of(made - day), id__lt=first_id_of(made + day), deleted_at=None
    )
    return list(rows.order_by("id"))


def joint_status(tasks: Sequence[Task]) -> JointStatus:
    """One word for many tasks: queued until one runs, running until all ended, then succeeded, failed or canceled
    when all did so, and `partial` otherwise.
    """
    words = {public_status(task) for task in tasks}
    if len(words) == 1:
        return words.pop()
    if words & {"queued", "running"}:
        return "running"
    return "partial" if "succeeded" in words else "failed"


def succeeded_of(user: User, public_ids: Sequence[str]) -> list[Task]:
    """The tasks of these ids that succeeded, in the order given. Raises NotFound when one is not the caller's."""
    texts: dict[UUID, str] = {}
    for text in public_ids:
        task_id = from_public(text)
        if task_id is None:
            raise NotFound(f"There is no task {text[:60]} of yours.")
        texts[task_id] = text
    rows = Task.objects.select_related("user").filter(pk__in=texts, deleted_at=None)
    found = {task.id: task for task in rows if may_see(task, user)}
    missing = [text for task_id, text in texts.items() if task_id not in found]
    if missing:
        raise NotFound(f"There is no task {missing[0]} of yours.")
    return [found[task_id] for task_id in texts if found[task_id].status == Status.SUCCEEDED]
