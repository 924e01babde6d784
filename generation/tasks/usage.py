"""What was used, by day: days that are over from their ledger rows, today (and days not closed yet) from the tasks.

`close_day` writes the ledger of a day from its tasks, so both always agree; it runs before a day's partition is
dropped, and may run again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import Count, IntegerField, Q, Sum, Value
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Coalesce, TruncDate

from generation.accounts.models import User
from generation.tasks.models import Status, Task, UsageDay
from imagegenx_site.ids import first_id_of

GROUPS: Final = {"day": "day", "model": "model_name", "kind": "kind", "key": "api_key__prefix"}
_COUNTED: Final = ("tasks", "succeeded", "images", "megapixel_steps")
_MODEL_NAME: Final = Coalesce("model__name", Value(""))  # empty: a picture that was only processed
_UNPAID: Final = (Status.FAILED, Status.EXPIRED)


@dataclass(frozen=True)
class Line:
    """One line of a report."""

    group: str
    tasks: int
    succeeded: int
    images: int
    megapixel_steps: float


def report(user: User, first: date, last: date, group: str = "day") -> list[Line]:
    """What the user asked for from `first` to `last` (inclusive, UTC), by day, model, kind or key."""
    ledger = UsageDay.objects.filter(user=user, day__gte=first, day__lte=last)
    closed = set(ledger.values_list("day", flat=True).distinct())
    rows = list(ledger.values("day", "model_name", "kind", "api_key__prefix", *_COUNTED))
    rows += [row for row in _of_tasks(first, last, user) if row["day"] not in closed]
    return _grouped(rows, GROUPS[group])


def _grouped(rows: Iterable[dict[str, Any]], name: str) -> list[Line]:
    sums: dict[str, list[float]] = {}
    for row in rows:
        group = str(row[name] or "")
        total = sums.setdefault(group, [0.0] * len(_COUNTED))
        for index, counted in enumerate(_COUNTED):
            total[index] += row[counted] or 0
    return [
        Line(group, int(total[0]), int(total[1]), int(total[2]), round(total[3], 4))
        for group, total in sorted(sums.items())
    ]


def _of_tasks(first: date, last: date, user: User | None = None) -> list[dict[str, Any]]:
    """The tasks of these days, summed by day, user, key, model and kind: only their partitions are read."""
    rows = Task.objects.filter(id__gte=first_id_of(first), id__lt=first_id_of(last + timedelta(days=1)))
    rows = rows.filter(user=user) if user else rows
    done = Q(status=Status.SUCCEEDED)
    images = Cast(KT("params__num_images"), IntegerField())
    grouped = rows.order_by().annotate(model_name=_MODEL_NAME, day=TruncDate("created_at"))
    summed = grouped.values("day", "user_id", "api_key_id", "api_key__prefix", "model_name", "kind").annotate(
        tasks=Count("id"),
        succeeded=Count("id", filter=done),
        pictures=Sum(images, filter=done, default=0),
        megapixel_steps=Sum("cost", filter=~Q(status__in=_UNPAID), default=0.0),
    )
    return [{**row, "images": row["pictures"]} for row in summed]


def close_day(day: date) -> int:
    """Write the ledger of a day whose tasks have all ended; the number of its lines. Raises ValueError for today."""
    if day >= datetime.now(UTC).date():
        raise ValueError(f"{day} is not over")
    names = ("user_id", "api_key_id", "model_name", "kind", *_COUNTED)
    lines = [UsageDay(day=day, **{name: row[name] for name in names}) for row in _of_tasks(day, day)]
    if not lines:  # nobody asked for anything, or the day was dropped: its ledger stays as it is
        return 0
    with transaction.atomic():
        UsageDay.objects.filter(day=day).delete()
        UsageDay.objects.bulk_create(lines)
    return len(lines)
