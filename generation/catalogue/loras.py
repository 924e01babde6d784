"""LoRAs: which a user may name, and how an upload becomes a version that never changes.

    upload -> temporary file, hashed while it is written -> checked by its header -> storage/loras.py
           -> a row (name, next version), ACTIVE

The file is named by its hash and never written again, and a task is bound to the hash: neither a new version nor a
deletion changes work that waits. A deleted version is not offered any more; its file stays.
"""

import hashlib
import json
import os
import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import uuid4

from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet
from safetensors import SafetensorError, safe_open

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
MAX_HEADER: Final = 10 << 20  # bytes
MAX_RANK: Final = 256
_CHUNK: Final = 1 << 20
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}")
_KEY: Final = re.compile(r"(lora_|\.lora[._]|lora\.(down|up)|\.(alpha|dora_scale)$|hada_w|lokr_)")
_DOWN: Final = re.compile(r"(lora_down\.weight|lora_A\.(default\.)?weight|lora\.down\.weight)$")
_DTYPES: Final = ("F16", "BF16", "F32")


class Owner(Protocol):
    """Whose LoRAs they are: a person, maybe of a team (accounts.models.User)."""

    @property
    def pk(self) -> Any: ...
    @property
    def team_id(self) -> int | None: ...


def visible(user: Owner) -> QuerySet[Lora]:
    """The LoRAs that a user may name: everybody's, and those of the own team."""
    mine = Q(owner=user) | (Q(owner__team_id=user.team_id) if user.team_id else Q())
    return Lora.objects.filter(Q(owner=None) | mine)


@dataclass(frozen=True)
class VersionField(Field):
    """An entry of `params.loras`, bound to the version that it means for this user and model."""

    user: Owner
    model: ImageModel | None
    expected: str = ENTRY.expected

    def read(self, value: Any, path: str, faults: list[Fault]) -> LoraChoice | None:
        entry = ENTRY.read(value, path, faults)
        row = _named(entry["name"], self.user) if entry else None
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


def _named(text: str, user: Owner) -> Lora | None:
    """The active version: `name@3`, or the newest of `name`; the team's own before everybody's."""
    name, _, version = text.partition("@")
    if not name.isprintable():
        return None
    mine, own = (
        (f"team:{user.team_id}", Q(owner__team=user.team_id)) if user.team_id else (f"user:{user.pk}", Q(owner=user))
    )
    for scope, rows in ((mine, own), ("all", Q(owner=None))):
        for row in _active(scope, name, rows):
            if not version or (version.isdecimal() and row.version == int(version)):
                return row
    return None


def _active(scope: str, name: str, whose: Q) -> list[Lora]:
    """The active versions of a name in a scope, the newest first; cached."""

    def load() -> dict[str, Any]:
        rows = Lora.objects.filter(whose, name=name, state=Lora.State.ACTIVE).order_by("-version", "-id")
        return {"rows": [caches.packed(row) for row in rows]}

    kept = caches.kept_rows(caches.loras(), f"{scope}:{name}", load) or {"rows": []}
    return [row for values in kept["rows"] if (row := caches.unpacked(Lora, values)) is not None]


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
        facts = checked(temporary)
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


def checked(path: Path) -> dict[str, Any]:
    """What the header of a LoRA file says: `rank` and `triggers`. No tensor is read. Raises InvalidRequest."""
    _check_header_size(path)
    try:
        with safe_open(str(path), "np") as file:
            keys = list(file.keys())
            slices = {key: file.get_slice(key) for key in keys}
            dtypes = {part.get_dtype() for part in slices.values()}
            ranks = [part.get_shape()[0] for key, part in slices.items() if _DOWN.search(key) and part.get_shape()]
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise _refused("file", "not_safetensors", "The file is not in safetensors format.") from error
    if not keys or not all(_KEY.search(key) for key in keys):
        raise _refused("file", "not_a_lora", "The file has tensors that are not those of a LoRA.")
    if dtypes - set(_DTYPES):
        raise _refused("file", "wrong_dtype", f"The tensors must be {', '.join(_DTYPES)}.")
    if not ranks or min(ranks) < 1 or max(ranks) > MAX_RANK:
        raise _refused("file", "wrong_rank", f"The rank must be from 1 to {MAX_RANK}.")
    return {"rank": max(ranks), "triggers": _triggers(metadata)}


def _check_header_size(path: Path) -> None:
    """The first eight bytes are the length of a JSON header: refuse what can't be one before anything parses it."""
    with path.open("rb") as file:
        start = file.read(9)
    length = struct.unpack("<Q", start[:8])[0] if len(start) == 9 else 0
    if not 2 <= length <= min(MAX_HEADER, path.stat().st_size) or start[8:] != b"{":
        raise _refused("file", "not_safetensors", "The file is not in safetensors format.")


def _triggers(metadata: dict[str, str]) -> list[str]:
    """The words that call the LoRA, as the usual training programs note them."""
    try:
        frequency = json.loads(metadata.get("ss_tag_frequency", "{}"))
        words = [word for tags in frequency.values() for word in tags]
    except (ValueError, AttributeError, TypeError, RecursionError):
        words = []
    words += metadata.get("modelspec.trigger_phrase", "").split(",")
    printable = ("".join(filter(str.isprintable, str(word))).strip()[:60] for word in words)
    return list(dict.fromkeys(filter(None, printable)))[:20]


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
