from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = "Convert an ESRGAN or Real-ESRGAN checkpoint (.pth, .safetensors) into the network used for its scale."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("checkpoint", type=Path)
        parser.add_argument(
            "--out", type=Path, default=Path(settings.SUPERRES_DIR), help="folder (default: SUPERRES_DIR)"
        )
        parser.add_argument(
            "--tolerance", type=float, default=1e-4, help="largest difference to the checkpoint (0 to 1)"
        )

    def handle(self, *args: Any, checkpoint: Path, out: Path, tolerance: float, **options: Any) -> None:
        from postprocessing.convert import convert  # torch: only here

        if not checkpoint.is_file():
            raise CommandError(f"{checkpoint} is no file.")
        try:
            done = convert(checkpoint, out, tolerance)
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"{done.path}: {done.kind}, {done.scale}x, {done.parameters:,} parameters, "
            f"differs by at most {done.worst:.1e} from the checkpoint."
        )
