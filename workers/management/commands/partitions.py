"""`manage.py partitions`: make the coming days' partitions, drop those past the retention."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from generation.tasks import partitions
from workers.housekeeping import retention


class Command(BaseCommand):
    """Runs by the schedule (maintenance.partitions, maintenance.retention), and at every start."""

    help = "Make partitions ahead of time. With --drop, end days older than HISTORY_DAYS: pictures, rows, partitions."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--drop", action="store_true", help="End old days with all that they hold.")

    def handle(self, *args: Any, **options: Any) -> None:
        today = datetime.now(UTC).date()
        made = partitions.ensure(today, settings.PARTITIONS_AHEAD_DAYS + 1)
        ended = retention.Ended()
        if options["drop"]:
            ended = retention.end_before(today - timedelta(days=settings.HISTORY_DAYS))
        self.stdout.write(f"made {len(made)}, dropped {ended.partitions} with {ended.objects} objects")
