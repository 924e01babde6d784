"""The rows of what was pulled or imported, and how to get a model that is known but not here."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import F

from generation.catalogue import snapshot
from generation.catalogue.kinds import CONTROLNET
from generation.catalogue.model_files import located
from generation.catalogue.models import ImageModel, ModelPreset

LIKE: Final = {
    "sd15": "sd15", "sd21": "sd21", "sd-inpaint": "sd15-inpaint", "sdxl": "sdxl", "sd3": "sd35-medium",
    "flux": "flux-dev", "z-image": "z-image-turbo", "qwen-image": "qwen-image",
}  # fmt: skip
"""The preset whose defaults a model of the family gets."""
FIRST_POSITION: Final = 100  # behind what is there: the default model is the operator's choice


def folder_of(name: str) -> Path:
    return Path(settings.MODELS_DIR, name)


def slug(text: str) -> str:
    """A name that requests can use: `Dream Shaper_8.safetensors` -> `dream-shaper-8`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:50].strip("-") or "model"


@transaction.atomic
def register(name: str, values: Mapping[str, Any]) -> ImageModel:
    """The row of a model, new or with the next revision: workers load what is there now, and no cached picture of the
    earlier weights is given away."""
    fields = {key: value for key, value in values.items() if key not in ("fallback", "title")}
    if fallback := values.get("fallback"):
        fields["fallback"] = ImageModel.objects.filter(name=fallback).first()
    row = ImageModel.objects.select_for_update().filter(name=name).first()
    if row is None:
        row = ImageModel(name=name, position=FIRST_POSITION, title=values.get("title", name))
    else:
        row.revision = next_revision(row.revision)
        row.enabled = True  # one that was removed stays, disabled, for the tasks that name it
    for field, value in fields.items():
        setattr(row, field, value)
    row.full_clean(exclude=["fallback"])
    row.save()
    snapshot.reload()
    return row


@transaction.atomic
def change(model: ImageModel, *, precision: str = "", offload: bool | None = None, first: bool = False) -> None:
    """How a model is loaded, and whether it is the default; workers load it anew when the former changes."""
    before = model.fingerprint
    model.precision = precision or model.precision
    if offload is not None:
        model.options = {**model.options, "speed": {**model.options.get("speed", {}), "offload": offload}}
    if model.fingerprint != before:
        model.revision = next_revision(model.revision)
    if first and model.position:
        ImageModel.objects.exclude(pk=model.pk).update(position=F("position") + 1)
        model.position = 0
    model.full_clean()
    model.save()
    snapshot.reload()


def loaded_weights(preset: ModelPreset) -> dict[str, int]:
    """Numbers of weights in memory by component: a few-step form has those of the model that it is fused into."""
    base = ModelPreset.objects.filter(name=preset.base).first() if preset.base else None
    return dict((base or preset).parameters)


def next_revision(revision: str) -> str:
    """ "3" -> "4", "ab" -> "ab-2"."""
    head, dash, number = revision.rpartition("-")
    if revision.isdecimal():
        return str(int(revision) + 1)
    return f"{head}-{int(number) + 1}" if dash and number.isdecimal() else f"{revision}-2"


@transaction.atomic
def attach(option: str, key: str, folder: Path, models: Sequence[ImageModel]) -> list[str]:
    """Give models a part that lies in a folder of its own: `options[option][key]`, or `options[option]` without a key.
    The names of those that got it."""
    for model in models:
        relative = os.path.relpath(folder, located(model.source))
        options = dict(model.options)
        options[option] = {**options.get(option, {}), key: relative} if key else relative
        model.options, model.revision = options, next_revision(model.revision)
        if option == "controlnets" and CONTROLNET not in model.kinds:
            model.kinds = [*model.kinds, CONTROLNET]
        model.save()
    snapshot.reload()
    return [model.name for model in models]


def models_for(names: Sequence[str], family: str) -> list[ImageModel]:
    """Those named, or all of the family ("": all with ControlNets). Raises LookupError for a name that is none."""
    if names:
        found = {model.name: model for model in ImageModel.objects.filter(name__in=names)}
        if missing := [name for name in names if name not in found]:
            raise LookupError(f"There is no model {', '.join(missing)} here; `models list` names them.")
        return [found[name] for name in names]
    rows = ImageModel.objects.exclude(source="mini")  # the shipped ones are too small for the parts of others
    if family:
        return list(rows.filter(family=family))
    return [model for model in rows if model.options.get("controlnets")]


def how_to_get(name: str) -> str:
    """What to say of a model that is not here: the command that brings it, "" for an unknown one."""
    wanted = name.lower()
    for preset in ModelPreset.objects.all():
        if wanted == preset.name or wanted in (str(alias).lower() for alias in preset.aliases):
            if preset.unusable:
                return f"{preset.title} is known, but: {preset.unusable}"
            accept = " --accept-licence" if preset.must_accept else ""
            command = f"manage.py models pull {preset.name}{accept}"
            return f"{preset.title} is known but not here yet. The operator gets it with `{command}`."
    return ""
