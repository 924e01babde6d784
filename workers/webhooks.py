"""What the webhook workers run, as a Celery function on the queues of `webhooks`: one attempt at one delivery."""

from uuid import UUID

from celery import shared_task

from generation.tasks import outbox
from generation.webhooks import messages


@shared_task(name=messages.FUNCTION)
def send_webhook(delivery_id: str) -> None:
    """Send it, if it is due; when it is not its user's turn it comes again in seconds."""
    row = UUID(delivery_id)
    messages.taken(row)
    outbox.send(row)
