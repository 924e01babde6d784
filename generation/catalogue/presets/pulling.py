"""A preset becomes a model: its files are fetched beside the models, verified, moved into their place in one step, and
registered last. What was cut off stays in `MODELS_DIR/.pulling/NAME` and is no model; the next pull goes on there.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from django.conf import settings

from generation.catalogue.model_files import located
from generation.catalogue.models import ImageModel, ModelPreset
from generation.catalogue.presets import checking, hub, registry
from generation.catalogue.presets.hub import Listing, Progress, PullError
from generation.catalogue.presets.memory import human
from generation.catalogue.presets.registry import folder_of

SPARE_BYTES: Final = 1 << 30  # of the disk, that a pull leaves free
_VARIANT: Final = ".fp16."  # in the names of half-precision files, which the engine does not ask for

Kind = ModelPreset.Kind


@dataclass(frozen=True)
class PullWishes:
    """`models`: which ones a ControlNet or a preprocessor is for, none: all that it fits. `convert_superres` makes a
    network for enlargement of a checkpoint; it needs torch, which callers here may not have.
    """

    accept_licence: bool = False
    models: Sequence[str] = ()
    convert_superres: Callable[[Path], object] | None = None
    progress: Progress = field(default=lambda name, here, whole: None)


def ordered(names: Sequence[str]) -> list[ModelPreset]:
    """The presets of these names, each after the one whose weights it needs if that is not here. Raises PullError."""
    chosen: dict[str, ModelPreset] = {}

    def add(name: str) -> None:
        preset = ModelPreset.objects.filter(name=name).first()
        if preset is None:
            raise PullError(f"There is no preset {name}. `models presets` lists them.")
        if preset.unusable:
            raise PullError(f"{name}: {preset.unusable}")
        if preset.base and not ImageModel.objects.filter(name=preset.base, enabled=True).exists():
            add(preset.base)
        chosen.setdefault(name, preset)

    for name in names:
        add(name)
    return list(chosen.values())


def check_licences(presets: Sequence[ModelPreset], accepted: bool) -> None:
    """Raises PullError with the licences to read, unless they were accepted."""
    asked = [preset for preset in presets if preset.must_accept]
    if asked and not accepted:
        lines = [f"  {preset.name}: {preset.licence}, {preset.licence_url}" for preset in asked]
        raise PullError("These licences restrict use. Read them, then add --accept-licence:\n" + "\n".join(lines))


def pull(preset: ModelPreset, wishes: PullWishes) -> str:
    """Fetch, verify, move, register. A sentence about what can be asked for now. Raises PullError."""
    check_licences([preset], wishes.accept_licence)
    if preset.kind == Kind.REMOTE:
        registry.register(preset.name, {"title": preset.title, **preset.row})
        return f"{preset.name} is registered; its key is read from {preset.row['options']['api_key_env']}."
    with _alone(preset.name):
        wanted = hub.listing(preset.repository, preset.revision, preset.files, preset.hashes)
        staging = folder_of(".pulling") / preset.name
        _check_space(wanted, staging)
        hub.fetch(preset.repository, wanted, staging, wishes.progress)
        _write_manifest(preset, wanted, staging)
        _plain_names(staging)
        if preset.kind == Kind.MODEL and "://" not in preset.repository:
            checking.check_folder(staging)
        if preset.kind == Kind.SUPERRES:
            return _enlargement(preset, staging, wishes)
        _move(staging, folder_of(preset.name))
    return _register(preset, wishes)


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Two pulls of one preset would write into each other's files. Raises PullError."""
    place = folder_of(".pulling")
    try:
        place.mkdir(parents=True, exist_ok=True)
        file = (place / f"{name}.lock").open("w")
    except OSError as error:
        raise PullError(
            f"MODELS_DIR ({settings.MODELS_DIR}) cannot be written here ({error.strerror}). Where workers have it "
            "read-only, run this in a container that has it writable (docs/models.md)."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise PullError(f"{name} is being pulled already.") from None
        yield


def _check_space(wanted: Listing, staging: Path) -> None:
    here = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file()) if staging.exists() else 0
    needed, free = wanted.bytes - here + SPARE_BYTES, shutil.disk_usage(settings.MODELS_DIR).free
    if needed > free:
        raise PullError(
            f"{human(needed)} of disk are needed in {settings.MODELS_DIR} (a spare gigabyte among them), and "
            f"{human(free)} are free."
        )


def _write_manifest(preset: ModelPreset, wanted: Listing, folder: Path) -> None:
    """What lies there: `models check` compares with it."""
    files = {}
    for file in wanted.files:
        path = folder / file.name
        files[_plain(file.name)] = {"bytes": path.stat().st_size, "sha256": file.sha256 or hub.digest_of(path)}
    content = {"preset": preset.name, "repository": preset.repository, "revision": wanted.revision, "files": files}
    (folder / checking.MANIFEST).write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _plain(name: str) -> str:
    return name.replace(_VARIANT, ".")


def _plain_names(folder: Path) -> None:
    for path in folder.rglob(f"*{_VARIANT}*"):
        if ".cache" not in path.parts:
            path.rename(path.with_name(_plain(path.name)))


def _move(staging: Path, target: Path) -> None:
    """Readers have the old folder or the new one, never a part of it."""
    shutil.rmtree(staging / ".cache", ignore_errors=True)
    retired = folder_of(".pulling") / f"{target.name}.old"
    shutil.rmtree(retired, ignore_errors=True)
    if target.exists():
        target.rename(retired)
    os.rename(staging, target)
    shutil.rmtree(retired, ignore_errors=True)


def _enlargement(preset: ModelPreset, staging: Path, wishes: PullWishes) -> str:
    if wishes.convert_superres is None:
        raise PullError("Networks for enlargement are converted by `manage.py models pull`, which has torch.")
    made = wishes.convert_superres(staging / preset.files[0])
    shutil.rmtree(staging)
    return f"{preset.name}: enlargement by {preset.row['scale']} is made by it from now on ({made})."


def _register(preset: ModelPreset, wishes: PullWishes) -> str:
    row = {"title": preset.title, "source": preset.name, **preset.row}
    if preset.kind == Kind.ADAPTER:
        base = ImageModel.objects.filter(name=preset.base).first()
        if base is None:
            raise PullError(f"{preset.name} needs the weights of {preset.base}, which is not here any more.")
        path = os.path.relpath(folder_of(preset.name) / preset.files[0], located(base.source))
        row |= {"source": base.source, "options": {**row.get("options", {}), "adapter": path}}
    if preset.kind in (Kind.CONTROLNET, Kind.PREPROCESSOR):
        return _attach(preset, wishes)
    model = registry.register(preset.name, row)
    return f'{preset.name} can be asked for: {{"params": {{"model": "{model.name}"}}}}'


def _attach(preset: ModelPreset, wishes: PullWishes) -> str:
    try:
        models = registry.models_for(wishes.models, preset.row["family"])
    except LookupError as error:
        raise PullError(str(error)) from error
    option = "controlnets" if preset.kind == Kind.CONTROLNET else "preprocessors"
    names = registry.attach(option, preset.row["control_type"], folder_of(preset.name), models)
    if not names:
        return f"{preset.name} lies here, but no model is there that it fits: pull one, then this again."
    return f"{preset.name}: control_type {preset.row['control_type']} of {', '.join(names)}."


def known_bytes(preset: ModelPreset) -> int:
    """What its files weigh, computed from the numbers of weights."""
    counts: Any = preset.parameters
    return sum(counts.values()) * preset.bytes_per_weight
