"""Rows after the GPU that nobody works on, after a lost message, a dead stage worker, or when a retry is due: the
messages of what follows are sent again.
"""

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from generation.tasks import stages
from generation.tasks.models import Task
from generation.tasks.open_tasks import RecentDays

_BEFORE_A_STAGE: Final = [stage.source for stage in stages.STAGES if not stage.after_delivery]


@dataclass(frozen=True)
class StageMessagesConfig:
    patience: float = 5.0  # s from a row's move to its next stage being sent again; doubles with every repeat
    patience_max: float = 60.0
    page: int = 5000  # rows of one run


class StageMessages:
    """Backs off, because a message may just be queued behind others."""

    def __init__(self, config: StageMessagesConfig) -> None:
        self._config, self._days = config, RecentDays()
        self._sent: dict[UUID, tuple[float, float]] = {}  # (not again before, patience)

    def run(self) -> None:
        now = timezone.now()
        idle = Q(stage_owner="", updated_at__lt=now - timedelta(seconds=self._config.patience))
        waiting = Task.objects.filter(
            idle | Q(stage_until__lt=now), id__gte=self._days.first_id(), status__in=_BEFORE_A_STAGE
        )
        urgent_first = waiting.order_by("priority", "id").values_list("id", "priority", "status")
        found = list(urgent_first[: self._config.page])
        for task_id, priority, status in found:
            self._send_again(task_id, priority, status)
        for task_id in self._sent.keys() - {task_id for task_id, *_ in found}:
            del self._sent[task_id]

    def _send_again(self, task_id: UUID, priority: int, status: str) -> None:
        now = time.monotonic()
        not_before, patience = self._sent.get(task_id, (0.0, self._config.patience))
        if now >= not_before:
            stages.send_stages(task_id, priority, status)
            self._sent[task_id] = (now + patience, min(2 * patience, self._config.patience_max))

    def forget(self) -> None:
        """What was sent is lost."""
        self._sent.clear()
