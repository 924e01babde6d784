"""Idempotency keys that have done their work."""

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from generation.tasks.models import IdempotencyKey


@shared_task(name="maintenance.idempotency")
def delete_old_keys() -> None:
    """Idempotency keys older than a day."""
    IdempotencyKey.objects.filter(created_at__lt=timezone.now() - timedelta(days=1)).delete()
