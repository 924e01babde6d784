"""Webhook deliveries whose time has come."""

from celery import shared_task

from generation.webhooks import delivery, messages


@shared_task(name="maintenance.webhooks")
def send_webhooks() -> None:
    """Messages for them: first attempts of ends that no worker saw, and repeats."""
    for priority, deliveries in sorted(delivery.due().items()):
        messages.send_messages(deliveries, priority)
