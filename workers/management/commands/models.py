"""`manage.py models presets | pull | import | list | check | remove`: real models in one command."""

import argparse
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from generation.catalogue.models import PRECISIONS, ImageModel, ModelPreset
from generation.catalogue.presets import checking, pulling, registry, removal
from generation.catalogue.presets.hub import PullError
from generation.catalogue.presets.memory import human, largest_bytes, weights_bytes
from generation.catalogue.presets.registry import folder_of

_EVERY_S: Final = {True: 0.2, False: 10.0}  # between two lines of progress: on a terminal, in a log


class Command(BaseCommand):
    help = "Models: known presets, downloads, imports, what is here, checks, removal."

    def add_arguments(self, parser: Any) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("presets", help="the public models that are known, with size, memory and licence")
        pull = actions.add_parser("pull", help="download presets; goes on where it was cut off")
        pull.add_argument("names", nargs="+", metavar="NAME")
        pull.add_argument("--accept-licence", "--accept-license", action="store_true", dest="accept_licence")
        pull.add_argument("--for", nargs="+", default=[], dest="models", metavar="MODEL", help="of a ControlNet")
        _add_import(actions.add_parser("import", help="a folder of diffusers, a single file, a folder of LoRAs, ..."))
        actions.add_parser("list", help="the models that are here, and whether workers could load them")
        _add_set(actions.add_parser("set", help="precision, offload, or that it is the default"))
        for name, what in (("check", "whether files are there and unchanged"), ("remove", "row and files")):
            one = actions.add_parser(name, help=what)
            one.add_argument("names", nargs="*" if name == "check" else "+", metavar="NAME")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        try:
            getattr(self, f"_{action}")(options)
        except PullError as error:
            raise CommandError(str(error)) from error

    def _presets(self, _options: dict[str, Any]) -> None:
        here = set(ImageModel.objects.values_list("name", flat=True))
        self.stdout.write("Sizes and memory are computed from the numbers of weights, not measured; a step needs more.")
        for preset in ModelPreset.objects.all():
            state = "here" if preset.name in here else "not usable yet" if preset.unusable else ""
            self.stdout.write(f"{preset.name:26} {preset.title}{f'  [{state}]' if state else ''}")
            self.stdout.write(f"{'':26} {_facts(preset)}")
            for line in filter(None, (preset.note, preset.unusable)):
                self.stdout.write(f"{'':26} {line}")

    def _pull(self, options: dict[str, Any]) -> None:
        presets = pulling.ordered(options["names"])
        pulling.check_licences(presets, options["accept_licence"])
        for preset in presets:
            if not preset.revision and "://" not in preset.repository and preset.kind != ModelPreset.Kind.REMOTE:
                self.stdout.write(
                    f"{preset.name}: its exact revision is not known here; the newest is taken and noted."
                )
            with ProgressLine(preset.name, self.stdout) as line:
                wishes = pulling.PullWishes(options["accept_licence"], options["models"], _to_onnx, line.note)
                done = pulling.pull(preset, wishes)
            self.stdout.write(done)

    def _import(self, options: dict[str, Any]) -> None:
        from workers.engine.checkpoints.files import Unusable  # torch: only here
        from workers.imports import importer

        wanted = ("name", "family", "like", "control_type", "configuration", "parts", "prediction", "replace")
        wishes = importer.ImportWishes(models=tuple(options["models"]), **{name: options[name] for name in wanted})
        try:
            lines = importer.import_path(options["path"], wishes)
        except Unusable as error:
            raise CommandError(str(error)) from error
        self.stdout.write("\n".join([*wishes.notes, *lines]))

    def _list(self, _options: dict[str, Any]) -> None:
        for model in ImageModel.objects.all():
            state = {True: "loaded", False: f"failed: {model.problem}", None: "not loaded yet"}[model.loads]
            switched = "" if model.enabled else "  (disabled)"
            self.stdout.write(f"{model.key:26} {model.family:12} {', '.join(model.kinds)}{switched}")
            self.stdout.write(f"{'':26} {state}; {model.source}")

    def _set(self, options: dict[str, Any]) -> None:
        for model in _named(options["names"]):
            registry.change(model, precision=options["precision"], offload=options["offload"], first=options["default"])
            offload = "with offload" if model.options.get("speed", {}).get("offload") else "without offload"
            self.stdout.write(f"{model.key}: {model.precision}, {offload}, position {model.position}")

    def _check(self, options: dict[str, Any]) -> None:
        rows = list(_named(options["names"])) if options["names"] else list(ImageModel.objects.all())
        wrong = 0
        for model in rows:
            found = list(checking.problems(model))
            wrong += bool(found)
            self.stdout.write(f"{model.name}: {'; '.join(found) or 'its files are there and as they were pulled'}")
        if wrong:
            raise CommandError(f"{wrong} of {len(rows)} cannot be used as they are.")

    def _remove(self, options: dict[str, Any]) -> None:
        for name in options["names"]:
            self.stdout.write(removal.remove(name))


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--precision", default="", choices=["", *PRECISIONS])
    parser.add_argument("--offload", default=None, action=argparse.BooleanOptionalAction, help="one module at a time")
    parser.add_argument("--default", action="store_true", help="of requests that name no model")


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path)
    parser.add_argument("--name", default="", help="of the model; default: that of the file or folder")
    parser.add_argument("--family", default="", help="sd15, sdxl, ... where it does not show")
    parser.add_argument("--like", default="", metavar="PRESET", help="take size, steps, guidance, sampler of a preset")
    parser.add_argument("--for", nargs="+", default=[], dest="models", metavar="MODEL", help="of a ControlNet or a VAE")
    parser.add_argument("--control-type", default="", help="canny, depth, openpose or tile")
    parser.add_argument(
        "--config", type=Path, dest="configuration", metavar="FOLDER", help="with the shape of the file"
    )
    parser.add_argument("--parts", default="", metavar="MODEL|FOLDER", help="brings what the file lacks")
    parser.add_argument("--prediction", default="", choices=["", "epsilon", "v_prediction"])
    parser.add_argument("--replace", action="store_true", help="the model of that name, if there is one")


def _named(names: list[str]) -> list[ImageModel]:
    rows = {model.name: model for model in ImageModel.objects.filter(name__in=names)}
    if missing := [name for name in names if name not in rows]:
        raise CommandError(f"There is no model {', '.join(missing)} here.")
    return [rows[name] for name in names]


def _facts(preset: ModelPreset) -> str:
    counts: dict[str, int] = preset.parameters
    facts = []
    if counts:
        facts.append(f"download {human(pulling.known_bytes(preset))}")
        loaded = registry.loaded_weights(preset)
        sizes = [f"{name} {human(weights_bytes(loaded, name))}" for name in ("fp32", "bf16", "int8")]
        facts.append(f"memory {', '.join(sizes)}, with offload {human(largest_bytes(loaded, 'bf16'))}")
    facts.append(preset.licence + (" (--accept-licence)" if preset.must_accept else ""))
    if preset.gated:
        facts.append("needs HF_TOKEN")
    if preset.kind != ModelPreset.Kind.REMOTE:
        facts.append(preset.repository + (f"@{preset.revision[:8]}" if preset.revision else ", newest revision"))
    return "; ".join(facts)


def _to_onnx(path: Path) -> object:
    from postprocessing.convert import convert  # torch: only here

    return convert(path, folder_of("superres")).path.name


class ProgressLine:
    """Bytes of all files together: a line that moves on a terminal, a line from time to time in a log."""

    def __init__(self, name: str, out: Any) -> None:
        self._name, self._out = name, out
        self._files: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._moves = sys.stdout.isatty()
        self._next = time.monotonic() + 1

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(self, *_: object) -> None:
        if self._files:
            self._write()
            self._out.write("", ending="\n" if self._moves else "")

    def note(self, file: str, here: int, whole: int) -> None:
        with self._lock:
            self._files[file] = (here, whole)
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + _EVERY_S[self._moves]
                self._write()

    def _write(self) -> None:
        here, whole = (sum(values) for values in zip(*self._files.values(), strict=True))
        text = f"{self._name}: {human(here)} of {human(whole)} in {len(self._files)} files ({here / max(whole, 1):.0%})"
        self._out.write(f"\r{text:70}" if self._moves else text, ending="" if self._moves else "\n")
        self._out.flush()
