"""Webhook deliveries whose time has come."""

from celery import shared_task

from generation.tasks import outbox
from generation.webhooks import delivery


@shared_task(name="maintenance.webhooks")
def send_webhooks() -> None:
    """Deliveries whose time has come: first attempts of ends that no worker saw, and repeats."""
    for delivery_id in delivery.due():
        outbox.send(delivery_id)
