"""Webhooks of a task: its outbox rows, written in the transaction that ends it (or its late step), so that an end and
its delivery exist together or not at all; and the body that a receiver gets.
"""

from typing import Annotated, Final, TypedDict
from uuid import UUID

from django.conf import settings

from generation.tasks.models import Status, Task
from generation.tasks.presentation import Moment, TaskBody, task_body
from generation.webhooks import delivery, events, outbox
from generation.webhooks.models import Delivery

_EVENT_OF: Final = {
    Status.SUCCEEDED: events.SUCCEEDED,
    Status.FAILED: events.FAILED,
    Status.CANCELLED: events.CANCELED,
    Status.EXPIRED: events.EXPIRED,
}


class EventBody(TypedDict):
    type: str
    timestamp: Annotated[Moment, "When it happened."]
    data: TaskBody


def write_delivery(task_id: UUID, event: str = "") -> None:
    """The outbox rows of a task that has just ended, or of another `event`."""
    task = Task.objects.only("status", "user_id", "callback_url").get(pk=task_id)
    write_delivery_of(task, event or _EVENT_OF[Status(task.status)])


def write_delivery_of(task: Task, event: str) -> list[UUID]:
    """The outbox rows of `event` for a task whose row is at hand; their ids."""
    return outbox.write(task.id, task.user_id, event, task.callback_url)


def send(delivery_id: UUID) -> bool:
    """One attempt at a delivery; see `delivery.send`."""
    return delivery.send(delivery_id, payload)


def payload(row: Delivery) -> EventBody:
    """The event with the task as the API shows it now."""
    task = row.task
    moment = row.created_at if row.event_type == events.UPDATED else task.finished_at or task.updated_at
    images = list(task.image_rows)
    return {
        "type": row.event_type,
        "timestamp": moment.isoformat(),
        "data": task_body(task, images, base_url=settings.PUBLIC_URL),
    }
