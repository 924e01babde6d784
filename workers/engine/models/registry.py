"""Which class serves which family. A new kind of model is entered here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from workers.engine.errors import ModelUnavailable
from workers.engine.interface import ModelInterface
from workers.engine.models.diffusers_model import DiffusersModel
from workers.engine.models.families import FAMILIES
from workers.engine.models.lama import RemovalModel
from workers.engine.models.remote import RemoteModel
from workers.engine.spec import ModelSpec

MODEL_CLASSES: dict[str, Callable[[ModelSpec, torch.device], ModelInterface]] = {
    name: partial(lambda spec, device, family: DiffusersModel(spec, family, device), family=family)
    for name, family in FAMILIES.items()
} | {
    "lama": RemovalModel,
    "remote-openai": RemoteModel,
}


def make_model(spec: ModelSpec, device: torch.device) -> ModelInterface:
    """The model object of a spec, not loaded yet. Raises ModelUnavailable for an unknown family."""
    try:
        return MODEL_CLASSES[spec.family](spec, device)
    except KeyError:
        known = ", ".join(MODEL_CLASSES)
        raise ModelUnavailable(f"model {spec.key} has the unknown family {spec.family!r}; known: {known}") from None
