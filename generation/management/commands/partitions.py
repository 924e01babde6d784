"""`manage.py partitions`: make the coming days' partitions, drop those past the retention."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from generation import partitions


class Command(BaseCommand):
    """Runs daily by the schedule (maintenance.partitions), and at every start."""

    help = "Make partitions ahead of time. With --drop, drop days older than HISTORY_DAYS."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument(
            "--drop", action="store_true", help="Drop old days. Their pictures must be gone from the store."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        today = datetime.now(UTC).date()
        made = partitions.ensure(today, settings.PARTITIONS_AHEAD_DAYS + 1)
        dropped = partitions.drop_before(today - timedelta(days=settings.HISTORY_DAYS)) if options["drop"] else []
        self.stdout.write(f"made {len(made)}, dropped {len(dropped)}")
