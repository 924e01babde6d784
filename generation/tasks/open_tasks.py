"""Which of a user's tasks are open: the truth that admission/quotas.py corrects its count by."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final

from generation.tasks.models import OPEN, Task
from imagegenx_site.ids import first_id_of

_LONGEST_TASK: Final = timedelta(days=2)


def look_up(user_id: int, counted: Collection[str]) -> tuple[set[str], set[str]]:
    """(the user's open tasks, those of `counted` that have ended), by id.

    A row that is written between the two queries is in neither, so it is not taken for one that has ended.
    """
    since = first_id_of(datetime.now(UTC) - _LONGEST_TASK)
    rows = Task.objects.filter(user_id=user_id, status__in=OPEN, id__gte=since).values_list("id", flat=True)
    opened = {str(task_id) for task_id in rows}
    ended = Task.objects.filter(pk__in=set(counted) - opened).exclude(status__in=OPEN).values_list("id", flat=True)
    return opened, {str(task_id) for task_id in ended}
