"""The usage ledger of days that are over."""

from datetime import UTC, datetime, timedelta

from celery import shared_task

from generation.tasks import usage


@shared_task(name="maintenance.usage")
def close_yesterday() -> None:
    """The ledger of yesterday, written anew each hour: tasks of late evening end after midnight."""
    usage.close_day(datetime.now(UTC).date() - timedelta(days=1))
