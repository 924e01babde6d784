from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = "Bytes of WebP and AVIF at the SSIM of JPEG 90, and of the defaults, for given pictures."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "pictures", type=Path, nargs="+", help="files or folders; never compressed with loss before"
        )

    def handle(self, *args: Any, pictures: list[Path], **options: Any) -> None:
        from postprocessing.compare import at_quality, match, plain_jpeg
        from postprocessing.formats import decode
        from postprocessing.recipe import DEFAULT_QUALITY, Output

        files = [file for path in pictures for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
        totals = dict.fromkeys(["jpeg 90", "webp =", "avif =", "webp default", "avif default"], 0)
        self.stdout.write(f"{'picture':24} {'SSIM':>7} " + " ".join(f"{name:>20}" for name in totals))
        for file in files:
            try:
                image = decode(file.read_bytes())
            except ValueError as error:
                raise CommandError(f"{file}: {error}") from error
            reference = plain_jpeg(image, 90)
            found = [reference, *(match(image, form, reference.ssim) for form in ("webp", "avif"))]
            found += [
                at_quality(image, Output(form, DEFAULT_QUALITY[form], metadata="none")) for form in ("webp", "avif")
            ]
            cells = [f"{one.bytes:>9} q{one.quality or '-':<3} {one.ssim:.3f}" for one in found]
            self.stdout.write(f"{file.name[:24]:24} {reference.ssim:7.4f} " + " ".join(f"{cell:>20}" for cell in cells))
            for name, one in zip(totals, found, strict=True):
                totals[name] += one.bytes
        for name, total in totals.items():
            saved = 100 * (1 - total / totals["jpeg 90"])
            self.stdout.write(f"{name:13} {total:>10} bytes, {saved:5.1f} % less than JPEG 90")
