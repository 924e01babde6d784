"""What came out of the product in the last hour, day and week, and why tasks failed: for the operator's first look.

Rows are read by their day, and a statement is given up after STATEMENT_MS: with millions of tasks a day the page shows
less, and stays quick. What is read is kept for KEPT_S in each process.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from django.db import OperationalError, connection, transaction
from django.db.models import Count, F, Q, Sum
from django.db.models.functions import TruncDate, TruncHour, TruncMinute

from generation.tasks.models import TERMINAL, Status, Task, UsageDay
from imagegenx_site.ids import first_id_of
from imagegenx_site.ttl import TtlValue

KEPT_S: Final = 10.0
STATEMENT_MS: Final = 2000
_LONGEST_TASK: Final = timedelta(hours=2)  # before an end, its task was sent at the earliest
_DAYS: Final = 7
_MOST_REASONS: Final = 12


@dataclass(frozen=True)
class Bucket:
    """Tasks that ended in a minute, hour or day: those that succeeded, and the others (failed, expired, canceled)."""

    at: datetime
    succeeded: int
    others: int


@dataclass(frozen=True)
class Throughput:
    """`reasons`: error code -> how many tasks of the last 24 h. `complete`: nothing was given up."""

    hour: Sequence[Bucket]
    day: Sequence[Bucket]
    week: Sequence[Bucket]
    reasons: Sequence[tuple[str, int]]
    complete: bool = True


def recent() -> Throughput:
    """As it was at most KEPT_S ago."""
    return _kept.get()


def read(now: datetime) -> Throughput:
    """From the rows; of what takes too long there is nothing."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = %s", [STATEMENT_MS])
            return Throughput(_hour(now), _day(now), _week(now), _reasons(now))
    except OperationalError:
        return Throughput((), (), (), (), complete=False)


_kept: TtlValue[Throughput] = TtlValue(lambda: read(datetime.now(UTC)), KEPT_S)


def _ended(since: datetime) -> Any:
    rows = Task.objects.filter(id__gte=first_id_of(since - _LONGEST_TASK), finished_at__gte=since)
    return rows.filter(status__in=TERMINAL).order_by()


def _counted(rows: Any) -> dict[datetime, tuple[int, int]]:
    done = Q(status=Status.SUCCEEDED)
    sums = rows.values("at").annotate(done=Count("pk", filter=done), others=Count("pk", filter=~done))
    return {row["at"]: (row["done"], row["others"]) for row in sums}


def _filled(found: Mapping[datetime, tuple[int, int]], first: datetime, step: timedelta, count: int) -> list[Bucket]:
    """Every bucket, also those in which nothing ended."""
    moments = (first + number * step for number in range(count))
    return [Bucket(at, *found.get(at, (0, 0))) for at in moments]


def _hour(now: datetime) -> list[Bucket]:
    first = now.replace(second=0, microsecond=0) - timedelta(minutes=59)
    found = _counted(_ended(first).annotate(at=TruncMinute("finished_at")))
    return _filled(found, first, timedelta(minutes=1), 60)


def _day(now: datetime) -> list[Bucket]:
    first = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=23)
    found = _counted(_ended(first).annotate(at=TruncHour("finished_at")))
    return _filled(found, first, timedelta(hours=1), 24)


def _week(now: datetime) -> list[Bucket]:
    """Days that are closed from the ledger (generation/tasks/usage.py), the others from their tasks."""
    first = now.date() - timedelta(days=_DAYS - 1)
    ledger = UsageDay.objects.filter(day__gte=first).order_by().values("day")
    sums = ledger.annotate(done=Sum("succeeded"), others=Sum(F("tasks") - F("succeeded")))
    found = {_start(row["day"]): (row["done"], row["others"]) for row in sums}
    start = max([_start(first), *(day + timedelta(days=1) for day in found)])
    rows = Task.objects.filter(id__gte=first_id_of(start), status__in=TERMINAL).order_by()
    by_day = _counted(rows.annotate(at=TruncDate("created_at")))
    found |= {_start(day): counts for day, counts in by_day.items()}
    return _filled(found, _start(first), timedelta(days=1), _DAYS)


def _start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _reasons(now: datetime) -> list[tuple[str, int]]:
    since = now - timedelta(days=1)
    failed = Task.objects.filter(id__gte=first_id_of(since), status__in=(Status.FAILED, Status.EXPIRED)).order_by()
    sums = failed.values("error_code").annotate(n=Count("pk")).order_by("-n", "error_code")[:_MOST_REASONS]
    return [(row["error_code"] or "expired", row["n"]) for row in sums]
