"""`manage.py convert MODEL`: the graphs of a model, beside it, and how much quicker they are on this machine."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from generation.catalogue.models import ImageModel

TARGETS = ("onnx", "onnx-int8")
PROMPTS = Path(settings.BASE_DIR, "fixtures", "seed", "calibration_prompts.txt")


class Command(BaseCommand):
    help = "Export a model's modules for another runtime; see docs/engine.md, Runtimes."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("model", help="name of a model of diffusers")
        parser.add_argument("--to", choices=TARGETS, default=TARGETS[0])
        parser.add_argument("--anew", action="store_true", help="also what is there and current")
        parser.add_argument(
            "--prompts", type=Path, default=PROMPTS, help="that calibrate 8 bits: a text file, one a line"
        )
        parser.add_argument("--threads", type=int, default=0, help="of the passes that are timed; 0: one for each core")

    def handle(self, *args: Any, model: str, anew: bool, threads: int, **options: Any) -> None:
        import torch

        from workers.engine.errors import EngineError
        from workers.engine.models.conversion import convert, convert_to_int8
        from workers.engine.threads import engine_threads
        from workers.gpu.samples import spec_of

        row = ImageModel.objects.filter(name=model).first()
        if row is None:
            raise CommandError(f"There is no model {model!r}. `manage.py models list` shows those that are here.")
        spec = replace(spec_of(row), precision="fp32")
        try:
            threads = threads or engine_threads(torch.device("cpu"))
            converted = convert(spec, anew, threads)
            if options["to"] == "onnx-int8":
                lines = options["prompts"].read_text("utf-8").splitlines()
                converted.append(convert_to_int8(spec, [line for line in lines if line.strip()], threads))
        except EngineError as error:
            raise CommandError(str(error)) from error
        for part in converted:
            self.stdout.write(part.line())
        if not any(part.problem == "" for part in converted):
            raise CommandError(f"No module of {model} could be converted; torch runs it as before.")
        self.stdout.write(f"Written to {spec.source}/onnx. Workers use it from the next loading of {model} on.")
