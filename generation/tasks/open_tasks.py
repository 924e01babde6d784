"""Which of a user's tasks are open: the truth that admission/quotas.py corrects its count by. And how long the oldest
wait.
"""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final

from generation.tasks.models import OPEN, Status, Task
from imagegenx_site.ids import first_id_of

_LONGEST_TASK: Final = timedelta(days=2)
_OLDEST_READ: Final = 5000  # oldest waiting tasks, in which the oldest of each class is searched


def look_up(user_id: int, counted: Collection[str]) -> tuple[set[str], set[str]]:
    """(the user's open tasks, those of `counted` that have ended), by id.

    A row that is written between the two queries is in neither, so it is not taken for one that has ended.
    """
    since = first_id_of(datetime.now(UTC) - _LONGEST_TASK)
    rows = Task.objects.filter(user_id=user_id, status__in=OPEN, id__gte=since).values_list("id", flat=True)
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
    """Whether any task is open."""
    return Task.objects.filter(status__in=OPEN).order_by().values("pk")[:1].exists()
