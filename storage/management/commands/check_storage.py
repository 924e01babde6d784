from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser

from storage.inventory import DayRows, compare_day
from storage.store import images

_INPUTS = ("image_key", "mask_key", "control_key")  # parameters with the keys of inputs


class Command(BaseCommand):
    help = "Find objects without rows and rows without objects, day by day; exit 1 when rows lack their objects."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, default=7, help="number of days up to --until")
        parser.add_argument(
            "--until", type=datetime.fromisoformat, default=None, help="last day, YYYY-MM-DD (default: today)"
        )
        parser.add_argument("--delete-orphans", action="store_true", help="delete objects whose task has no row")

    def handle(self, *args: Any, days: int, until: datetime | None, delete_orphans: bool, **options: Any) -> None:
        last = (until or datetime.now(UTC)).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
        store = images()
        counts: dict[str, int] = {}
        for back in range(days - 1, -1, -1):
            day = last - timedelta(days=back)
            for finding in compare_day(store, day, rows_of(day)):
                counts[finding.kind] = counts.get(finding.kind, 0) + 1
                self.stdout.write(f"{finding.kind}\t{finding.key}\t{finding.size}")
                if delete_orphans and finding.kind == "orphan":
                    store.delete(finding.key)
        found = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        self.stdout.write(f"{days} days checked: {found or 'no difference'}")
        if counts.get("missing"):
            raise CommandError(f"{counts['missing']} objects are missing.")


def rows_of(day: datetime) -> DayRows:
    """The day's rows. The models are found by name: storage must not import generation."""
    bounds = (_first_id(day), _first_id(day + timedelta(days=1)))
    task = apps.get_model("generation", "Task")
    image = apps.get_model("generation", "Image")
    pairs = image.objects.filter(task_id__gte=bounds[0], task_id__lt=bounds[1]).values_list("key", "thumbnail_key")
    named = list(pairs)
    tasks_of_day = task.objects.filter(pk__gte=bounds[0], pk__lt=bounds[1], deleted_at=None)
    sent = [
        tasks_of_day.values_list(f"params__{name}", flat=True).exclude(**{f"params__{name}": ""}) for name in _INPUTS
    ]
    return DayRows(
        tasks=frozenset(
            str(pk) for pk in task.objects.filter(pk__gte=bounds[0], pk__lt=bounds[1]).values_list("pk", flat=True)
        ),
        originals=frozenset(key for key, _ in named),
        thumbnails=frozenset(key for _, key in named if key),
        inputs=frozenset(key for found in sent for key in found if key),
    )


def _first_id(day: datetime) -> UUID:
    """The smallest UUIDv7 of a day."""
    return UUID(int=int(day.timestamp() * 1000) << 80)
