"""What runs by the clock, as Celery functions on queue io (the schedule is in imagegenx_site/celery.py)."""

from datetime import UTC, datetime, timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from generation import partitions, webhooks
from generation.models import IdempotencyKey


@shared_task(name="maintenance.partitions")
def make_partitions() -> None:
    """The partitions of the coming days."""
    partitions.ensure(datetime.now(UTC).date(), settings.PARTITIONS_AHEAD_DAYS + 1)


@shared_task(name="maintenance.webhooks")
def send_webhooks() -> None:
    """Deliveries whose time has come: first attempts of ends that no worker saw, and repeats."""
    for delivery_id in webhooks.due():
        webhooks.send(delivery_id)


@shared_task(name="maintenance.idempotency")
def forget_idempotency_keys() -> None:
    """Idempotency keys older than a day."""
    IdempotencyKey.objects.filter(created_at__lt=timezone.now() - timedelta(days=1)).delete()
