"""A cancel that did not reach its worker is repeated; one that no worker will obey is carried out here."""

from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from generation.queue import client as queue_client
from generation.queue.values import Withdrawal
from generation.tasks import states
from generation.tasks.models import Status, Task
from generation.tasks.open_tasks import RecentDays


@dataclass(frozen=True)
class CancelsConfig:
    min_age_s: float = 3.0  # since the row's last change; a younger one is left to its worker
    page: int = 1000  # rows of one run


def run(config: CancelsConfig, days: RecentDays) -> None:
    cutoff = timezone.now() - timedelta(seconds=config.min_age_s)
    asked = Task.objects.filter(
        id__gte=days.first_id(), cancel_requested=True, status__in=[Status.QUEUED, Status.RUNNING]
    )
    for task_id, updated in asked.order_by("id").values_list("id", "updated_at")[: config.page]:
        found = queue_client.cancel(task_id)
        if found is not Withdrawal.SIGNALLED and updated < cutoff:
            states.cancel_if_requested(task_id, among=[Status.QUEUED, Status.RUNNING])
