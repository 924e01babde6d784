"""Partitions of the coming days."""

from datetime import UTC, datetime

from celery import shared_task
from django.conf import settings

from generation.tasks import partitions


@shared_task(name="maintenance.partitions")
def make_partitions() -> None:
    """The partitions of the coming days."""
    partitions.ensure(datetime.now(UTC).date(), settings.PARTITIONS_AHEAD_DAYS + 1)
