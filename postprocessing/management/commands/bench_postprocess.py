from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    help = "Images per second and peak memory of each post-processing step, beside plain OpenCV and Pillow."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024])

    def handle(self, *args: Any, sizes: list[int], **options: Any) -> None:
        from postprocessing.bench import report

        report(sizes, settings.SUPERRES_DIR, self.stdout.write)
