"""Which tasks are open: those of a user (the truth that admission/quotas.py corrects its count by), any at all; how
long the oldest wait, and from which day on to look for them.
"""

import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from generation.tasks.models import OPEN, Status, Task
from imagegenx_site.ids import first_id_of

_LONGEST_TASK: Final = timedelta(days=2)
_ALL_DAYS_EVERY_S: Final = 60.0
_OLDEST_READ: Final = 5000  # oldest waiting tasks, in which the oldest of each class is searched


def look_up(user_id: int, counted: Collection[str]) -> tuple[set[str], set[str]]:
    """(the user's open tasks, those of `counted` that have ended), by id.

    A row that is written between the two queries is in neither, so it is not taken for one that has ended.
    """
    rows = Task.objects.filter(user_id=user_id, status__in=OPEN, id__gte=first_recent_id()).values_list("id", flat=True)
    opened = {str(task_id) for task_id in rows}
    ended = Task.objects.filter(pk__in=set(counted) - opened).exclude(status__in=OPEN).values_list("id", flat=True)
    return opened, {str(task_id) for task_id in ended}


def oldest_waiting() -> dict[int, float]:
    """Age in s of each class's oldest waiting task, if it is among the _OLDEST_READ oldest of all."""
    waiting = Task.objects.filter(status=Status.QUEUED).order_by("id")
    found: dict[int, datetime] = {}
    for priority, created in waiting.values_list("priority", "created_at")[:_OLDEST_READ]:
        found.setdefault(priority, created)
    now = datetime.now(UTC)
    return {priority: max(0.0, (now - since).total_seconds()) for priority, since in found.items()}


def any_open() -> bool:
    """Whether any task of the last days is open."""
    return Task.objects.filter(status__in=OPEN, id__gte=first_recent_id()).order_by().values("pk")[:1].exists()


def first_recent_id(longest: timedelta = _LONGEST_TASK) -> UUID:
    """Open tasks are younger, except after an outage of days."""
    return first_id_of(datetime.now(UTC) - longest)


class RecentDays:
    """From which id on a look that is repeated again and again reads the rows.

    Postgres plans every partition that a query may touch, about 0.1 ms for each, of which there are as many as days are
    kept; the read itself takes 0.2 ms. So days whose tasks have ended long ago are left out, except in `in_a_row` looks
    every _ALL_DAYS_EVERY_S, the first ones among them, which find what an outage of days has left.
    """

    def __init__(self, longest: timedelta = _LONGEST_TASK, in_a_row: int = 1) -> None:
        self._longest, self._in_a_row = longest, in_a_row
        self._all_days_at, self._all_days_left = float("-inf"), 0

    def first_id(self) -> UUID:
        """To be asked once for each look."""
        now = time.monotonic()
        if now >= self._all_days_at:
            self._all_days_at, self._all_days_left = now + _ALL_DAYS_EVERY_S, self._in_a_row
        if self._all_days_left == 0:
            return first_recent_id(self._longest)
        self._all_days_left -= 1
        return UUID(int=0)
