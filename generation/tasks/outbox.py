"""Webhook rows of a task: written in the transaction that ends it (or its late step), so an end and its delivery exist
together or not at all. generation/webhooks/delivery.py sends them.
"""

from typing import Final
from uuid import UUID

from generation.tasks.models import Status, Task
from generation.webhooks.models import Delivery, WebhookEndpoint
from imagegenx_site.ids import derived

_EVENT_OF: Final = {
    Status.SUCCEEDED: "task.succeeded",
    Status.FAILED: "task.failed",
    Status.CANCELLED: "task.canceled",
    Status.EXPIRED: "task.expired",
}


UPDATED: Final = "task.updated"  # of a succeeded task: the larger version is there, or will not come


EVENTS: Final = (*_EVENT_OF.values(), UPDATED)


def write_delivery(task_id: UUID, event: str = "") -> None:
    """The outbox rows of a task that has just ended (or of another `event`), for those who want to know. Runs in the
    caller's transaction; repeated it changes nothing.
    """
    task = Task.objects.select_related("user").get(pk=task_id)
    event = event or _EVENT_OF[Status(task.status)]
    if task.callback_url:
        own, _ = WebhookEndpoint.objects.get_or_create(user=task.user, url="")
        _write(task, event, own, task.callback_url)
    for endpoint in WebhookEndpoint.objects.filter(user=task.user, disabled_at=None).exclude(url=""):
        if not endpoint.events or event in endpoint.events:
            _write(task, event, endpoint, endpoint.url)


def _write(task: Task, event: str, endpoint: WebhookEndpoint, url: str) -> None:
    suffix = ":updated" if event == UPDATED else ""  # a task has one end, and at most one update after it
    Delivery.objects.get_or_create(
        id=derived(task.id, f"delivery:{endpoint.pk}{suffix}"),
        defaults={
            "task": task,
            "endpoint": endpoint,
            "event_id": f"evt_{derived(task.id, f'event{suffix}').hex}",
            "event_type": event,
            "url": url,
        },
    )
