"""Webhook deliveries whose time has come."""

from datetime import timedelta
from typing import Final

from celery import shared_task

from generation.tasks.open_tasks import RecentDays
from generation.webhooks import delivery, messages

_LONGEST: Final = timedelta(days=4)  # a task's two days, then all tries of its delivery
_days = RecentDays(_LONGEST)


@shared_task(name="maintenance.webhooks")
def send_webhooks() -> None:
    """Messages for them: first attempts of ends that no worker saw, and repeats."""
    for priority, deliveries in sorted(delivery.due(_days.first_id()).items()):
        messages.send_messages(deliveries, priority)
