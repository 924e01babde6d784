"""A model leaves: first nobody can ask for it, then its files go, if no other model uses them."""

import shutil
from pathlib import Path

from django.db import transaction
from django.db.models import ProtectedError

from generation.catalogue import snapshot
from generation.catalogue.model_files import located
from generation.catalogue.models import ImageModel
from generation.catalogue.presets import checking
from generation.catalogue.presets.hub import PullError
from generation.catalogue.presets.registry import folder_of

SHIPPED = ("mini", "mini-turbo", "controlnet-canny", "lora", "superres")


def remove(name: str) -> str:
    """A sentence about what became of it. Raises PullError."""
    if name in SHIPPED:
        raise PullError(f"{name} ships with the product. It can be disabled in the admin.")
    if not name or name != Path(name).name or name.startswith("."):  # `..` would take more than models away
        raise PullError(f"There is no model {name} here.")
    row = ImageModel.objects.filter(name=name).first()
    if row is None and not folder_of(name).is_dir():
        raise PullError(f"There is no model {name} here.")
    if users := _users(folder_of(name), but=name):
        raise PullError(f"{name} is used by {', '.join(users)}: remove them first.")
    kept = _forget(row) if row is not None else ""
    shutil.rmtree(folder_of(name), ignore_errors=True)
    return f"{name} is removed.{kept}"


def _forget(row: ImageModel) -> str:
    """Its row goes, or is disabled where tasks of the past are bound to it."""
    try:
        with transaction.atomic():
            row.delete()
        kept = ""
    except ProtectedError:
        row.enabled = False
        row.save(update_fields=["enabled", "updated_at"])
        kept = " Its row stays, disabled: tasks of the past name it."
    snapshot.reload()
    return kept


def _users(folder: Path, *, but: str) -> list[str]:
    """Other models whose source or parts lie in the folder."""
    users = []
    for model in ImageModel.objects.exclude(name=but).filter(enabled=True):
        source = located(model.source)
        places = [source, *(source / part for _, part in checking.parts(model))]
        if any(place.resolve().is_relative_to(folder.resolve()) for place in places):
            users.append(model.name)
    return users
