"""The outbox: one row for each event and address, written in the transaction of the event, sent afterwards
(delivery.py).
"""

from uuid import UUID

from generation.webhooks.events import UPDATED
from generation.webhooks.models import Delivery, WebhookEndpoint
from imagegenx_site.ids import derived
from imagegenx_site.row_statements import Sql, select


def write(task_id: UUID, user_id: int, event: str, callback_url: str = "") -> list[UUID]:
    """Rows for the task's own callback and for every endpoint of the user that asks for the event; their ids. Runs in
    the caller's transaction; repeated it changes nothing.
    """
    written = []
    if callback_url:
        default, _ = WebhookEndpoint.objects.get_or_create(user_id=user_id, url="")
        written.append(_write(task_id, event, default, callback_url))
    for endpoint in select(WebhookEndpoint, {"user": user_id, "disabled_at": Sql("IS NULL"), "url": Sql("<> ''")}):
        if not endpoint.events or event in endpoint.events:
            written.append(_write(task_id, event, endpoint, endpoint.url))
    return written


def _write(task_id: UUID, event: str, endpoint: WebhookEndpoint, url: str) -> UUID:
    suffix = ":updated" if event == UPDATED else ""  # a task has one end, and at most one update after it
    row, _ = Delivery.objects.get_or_create(
        id=derived(task_id, f"delivery:{endpoint.pk}{suffix}"),
        defaults={
            "task_id": task_id,
            "endpoint": endpoint,
            "event_id": f"evt_{derived(task_id, f'event{suffix}').hex}",
            "event_type": event,
            "url": url,
        },
    )
    return row.pk
