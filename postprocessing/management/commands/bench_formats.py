import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from postprocessing.arrays import Picture


class Command(BaseCommand):
    help = "Bytes saved by WebP and AVIF, by kind of picture: at the defaults and at the same SSIM, beside JPEG 90."

    def add_arguments(self, parser: CommandParser) -> None:
        text = "folders of pictures, one kind each, never compressed with loss before; synthetic ones are always added"
        parser.add_argument("folders", type=Path, nargs="*", help=text)
        default = settings.BASE_DIR / "docs" / "benchmarks" / "formats.json"
        parser.add_argument("--json", type=Path, default=default, help="where the figures go")

    def handle(self, *args: Any, folders: list[Path], **options: Any) -> None:
        from postprocessing.compare import synthetic_pictures, totals

        kinds = {folder.name: _read(folder) for folder in folders} | synthetic_pictures()
        columns = ("bytes", "of JPEG 90", "of auto", "SSIM lowest", "mean")
        self.stdout.write(f"{'pictures':14} {'n':>3} {'as':13}" + "".join(f"{name:>12}" for name in columns))
        results = {}
        for kind, pictures in kinds.items():
            results[kind] = totals(pictures)
            for name, row in results[kind].items():
                cells = "".join(f"{value:>12}" for value in row.values())
                self.stdout.write(f"{kind:14} {len(pictures):>3} {name:13}{cells}")
        options["json"].write_text(json.dumps(results, indent=1) + "\n")


def _read(folder: Path) -> list[Picture]:
    from postprocessing.decoding import decode

    try:
        return [decode(file.read_bytes()) for file in sorted(folder.iterdir())]
    except (OSError, ValueError) as error:
        raise CommandError(f"{folder}: {error}") from error
