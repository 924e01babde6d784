"""LoRAs: which a user may name, and how an upload becomes a version that never changes.

    upload -> temporary file, hashed while it is written -> checked whole (lora_check.py) -> storage/loras.py
           -> a row (name, next version), ACTIVE

The file is named by its hash and never written again, and a task is bound to the hash: neither a new version nor a
deletion changes work that waits. A deleted version is not offered any more; its file stays.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import uuid4

from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet

from generation.accounts.models import Plan
from generation.catalogue import lora_check
from generation.catalogue.models import ImageModel, Lora
from generation.catalogue.parameters import LoraChoice, Parameters
from imagegenx_site import caches
from imagegenx_site.errors import Busy, Fault, InvalidRequest
from imagegenx_site.schema import Field, List, Number, Object, Schema, Text
from storage.errors import StorageError
from storage.loras import LoraFiles

ENTRY: Final = Object(  # one of `params.loras`
    {"name": Text(60, required=True), "weight": Number(0.0, 2.0)},
    shorthand="name",
    form="Give a name, or an object with `name` and `weight`.",
)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}")


class Owner(Protocol):
    """Whose LoRAs they are: a person, maybe of a team (accounts.models.User)."""

    @property
    def pk(self) -> Any: ...
    @property
    def team_id(self) -> int | None: ...


def visible(user: Owner, plan: Plan | None = None) -> QuerySet[Lora]:
    """The LoRAs that a user may name under a plan: everybody's that are not kept for other plans or teams, and those of
    the own team.
    """
    mine = Q(owner=user) | (Q(owner__team_id=user.team_id) if user.team_id else Q())
    mine |= Q(teams=user.team_id) if user.team_id else Q()
    mine |= Q(plans=plan) if plan else Q()
    return Lora.objects.filter(Q(owner=None, plans=None, teams=None) | mine).distinct()


@dataclass(frozen=True)
class VersionField(Field):
    """An entry of `params.loras`, bound to the version that it means for this user and model."""

    user: Owner
    model: ImageModel | None
    plan: Plan | None = None
    expected: str = ENTRY.expected

    def read(self, value: Any, path: str, faults: list[Fault]) -> LoraChoice | None:
        entry = ENTRY.read(value, path, faults)
        row = _named(entry["name"], self.user, self.plan) if entry else None
        if entry and row is None:
            faults.append(Fault(f"{path}.name", "unknown_lora", "There is no such active LoRA; see /api/v1/lora."))
        elif row and self.model and row.base_family != self.model.family:
            message = f"{row.name} was made for {row.base_family}, and {self.model.name} is {self.model.family}."
            faults.append(Fault(f"{path}.name", "wrong_family", message))
        elif row:
            return LoraChoice(str(row), row.sha256, row.source, entry.get("weight", 1.0), row.pk)
        return None

    def json_schema(self) -> Schema:
        return ENTRY.json_schema()


def list_of(entry: Field) -> List:
    """The schema of `params.loras`."""
    return List(entry, 0, 3, "LoRAs", form="Give a list of names, or of {name, weight}.")


def _named(text: str, user: Owner, plan: Plan | None = None) -> Lora | None:
    """The active version: `name@3`, or the newest of `name`; the team's own before everybody's."""
    name, _, version = text.partition("@")
    if not name.isprintable():
        return None
    mine, own = (
        (f"team:{user.team_id}", Q(owner__team=user.team_id)) if user.team_id else (f"user:{user.pk}", Q(owner=user))
    )
    for scope, rows in ((mine, own), ("all", Q(owner=None))):
        for row, plans, teams in _active(scope, name, rows):
            if (plans or teams) and not ((plan and plan.pk in plans) or user.team_id in teams):
                continue
            if not version or (version.isdecimal() and row.version == int(version)):
                return row
    return None


def _active(scope: str, name: str, whose: Q) -> list[tuple[Lora, list[int], list[int]]]:
    """The active versions of a name in a scope, the newest first, each with the ids of the plans and teams for which it
    is kept; cached.
    """

    def load() -> dict[str, Any]:
        rows = Lora.objects.filter(whose, name=name, state=Lora.State.ACTIVE).order_by("-version", "-id")
        return {"rows": [_with_access(row) for row in rows.prefetch_related("plans", "teams")]}

    kept = caches.kept_rows(caches.loras(), f"{scope}:{name}", load) or {"rows": []}
    return [
        (row, values["plan_ids"], values["team_ids"])
        for values in kept["rows"]
        if (row := caches.unpacked(Lora, values)) is not None
    ]


def _with_access(row: Lora) -> dict[str, Any]:
    return {
        **(caches.packed(row) or {}),
        "plan_ids": [plan.pk for plan in row.plans.all()],
        "team_ids": [team.pk for team in row.teams.all()],
    }


def receive(
    name: str,
    chunks: Iterable[bytes],
    *,
    owner: Owner | None,
    family: str,
    files: LoraFiles,
    max_bytes: int,
    check: Callable[[list[str]], None] | None = None,
) -> Lora:
    """Keep an upload as the next version of `name`, everybody's when it has no owner. The same content again is the
    version that it already is.

    `check` may refuse it by its trigger words. Raises InvalidRequest when it is no LoRA, or too large, Busy when the
    store does not take it.
    """
    if not _NAME.fullmatch(name):
        raise _refused("name", "malformed", "A name has 1 to 50 small letters, digits, - and _, e.g. ink-wash.")
    files.root.mkdir(parents=True, exist_ok=True)
    temporary = files.root / f".tmp-{uuid4().hex}"
    try:
        sha256, size = _written(temporary, chunks, max_bytes)
        facts = checked(temporary, family)
        if check:
            check(facts["triggers"])
        source = files.add(temporary, sha256)
    except StorageError as error:
        raise Busy("The file could not be stored. Try again in a moment.", retry_after=5) from error
    finally:
        temporary.unlink(missing_ok=True)
    return _new_version(name, owner, sha256=sha256, bytes=size, source=source, base_family=family, **facts)


def _written(path: Path, chunks: Iterable[bytes], max_bytes: int) -> tuple[str, int]:
    """Write durably; SHA-256 and size."""
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as file:
        for chunk in chunks:
            size += len(chunk)
            if size > max_bytes:
                raise _refused("file", "too_large", f"A LoRA file has at most {max_bytes >> 20} MiB.")
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest(), size


def checked(path: Path, family: str) -> dict[str, Any]:
    """What a LoRA file says of itself: `rank` and `triggers`. Raises InvalidRequest unless it can be applied to models
    of the family."""
    try:
        return lora_check.checked(path, family)
    except lora_check.Faulty as fault:
        raise _refused("file", fault.code, str(fault)) from fault


def count_use(parameters: Parameters) -> None:
    """One more use of each LoRA of a task that succeeded. Runs in the transaction that ends the task."""
    for row in sorted({choice.row for choice in parameters.loras}):  # in one order, so that two ends never deadlock
        Lora.objects.filter(pk=row).update(uses=F("uses") + 1)


def _new_version(name: str, owner: Owner | None, **fields: Any) -> Lora:
    same_team = Q(owner__team_id=owner.team_id) if owner and owner.team_id else Q(owner=owner)
    mine = Lora.objects.filter(same_team, name=name)
    for _ in range(5):  # two uploads at once: the loser of the number takes the next
        same = mine.filter(sha256=fields["sha256"]).exclude(state=Lora.State.DELETED).first()
        if same:
            return same
        newest = mine.order_by("-version").values_list("version", flat=True).first() or 0
        try:
            with transaction.atomic():
                return Lora.objects.create(
                    name=name,
                    version=newest + 1,
                    owner_id=owner.pk if owner else None,
                    state=Lora.State.ACTIVE,
                    title=name,
                    **fields,
                )
        except IntegrityError:
            continue
    raise _refused("name", "conflict", "Others are uploading the same name. Try again.")


def _refused(field: str, code: str, message: str) -> InvalidRequest:
    return InvalidRequest([Fault(field, code, message)])
