"""The rows of a batch: a CSV file with a header, or a file with one JSON object a line (.jsonl, .ndjson).

Columns: text (or prompt), name (begins the files' names), image, mask, control_image (files beside the batch's, or
addresses), kind (else it follows from the pictures), and any parameter. An empty cell is not given. In JSON parameters
may also stand in `params`.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from imagegenx.errors import ImageGenXError

PICTURES = ("image", "mask", "control_image")
KINDS = ("generate", "img2img", "inpaint", "controlnet")
_INTEGERS = frozenset({"steps", "seed", "num_images", "mask_feather", "priority", "deadline_seconds"})
_NUMBERS = frozenset({"cfg_scale", "saturation", "strength", "control_strength", "control_start", "control_end"})
_JSON = frozenset({"deterministic", "cache", "preview", "control_ready", "loras", "postprocess", "area"})
_LISTS = frozenset({"style_keywords"})
_ADDRESSES = ("http://", "https://", "data:")


class RowFault(ImageGenXError):
    """The file is no batch."""


@dataclass(frozen=True)
class Row:
    """`key` follows from the content alone: the same row is the same in every run, wherever it stands."""

    number: int
    key: str
    kind: str
    name: str
    fields: Mapping[str, Any]
    pictures: Mapping[str, str | Path]


def read_rows(path: Path, common: Mapping[str, Any]) -> Iterator[Row]:
    """The rows, one after the other. `common`: parameters for rows that do not give them. Raises RowFault."""
    equal: Counter[bytes] = Counter()  # rows with the same content are told apart by their number among these
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, values in _values(file, path):
            given = {**common, **{name: value for name, value in values.items() if value not in (None, "")}}
            digest = hashlib.sha256(json.dumps(given, sort_keys=True, ensure_ascii=False).encode()).digest()[:16]
            equal[digest] += 1
            key = hashlib.sha256(digest + str(equal[digest]).encode()).hexdigest()[:24]
            yield _row(number, key, given, path.parent)


def _values(file: IO[str], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        yield from _json_lines(file, path)
        return
    reader = csv.DictReader(file)
    names = [(name or "").strip() for name in reader.fieldnames or ()]
    if not {"text", "prompt"} & set(names):
        raise RowFault(f"{path}: its first line has no column `text`.")
    reader.fieldnames = names
    for number, row in enumerate(reader, 1):
        if None in row:
            raise RowFault(f"{path}, row {number}: it has more cells than the first line.")
        yield number, {name: _typed(name, cell, f"{path}, row {number}") for name, cell in row.items() if name}


def _json_lines(file: IO[str], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(filter(str.strip, file), 1):
        try:
            body = json.loads(line)
        except ValueError as error:
            raise RowFault(f"{path}, row {number}: no JSON ({error}).") from error
        if not isinstance(body, dict):
            raise RowFault(f"{path}, row {number}: no JSON object.")
        params = body.pop("params", None) or {}
        yield number, {**params, **body}


def _typed(name: str, cell: str | None, where: str) -> Any:
    """A cell of CSV as the parameter's type."""
    text = (cell or "").strip()
    if not text:
        return None
    try:
        if name in _INTEGERS:
            return int(text)
        if name in _NUMBERS:
            return float(text)
        if name in _JSON:
            return json.loads(text)
    except ValueError:
        raise RowFault(f"{where}: {name} can't be {text!r}.") from None
    return [word.strip() for word in text.split(",")] if name in _LISTS else text


def _row(number: int, key: str, given: Mapping[str, Any], folder: Path) -> Row:
    rest = dict(given)
    text = rest.pop("text", None) or rest.pop("prompt", None)
    if not isinstance(text, str):
        raise RowFault(f"row {number} has no text.")
    rest.pop("prompt", None)
    pictures = {name: _located(str(rest.pop(name)), folder) for name in PICTURES if name in rest}
    kind = rest.pop("kind", None) or _kind_of(pictures, rest)
    if kind not in KINDS:
        raise RowFault(f"row {number}: kind is one of {', '.join(KINDS)}.")
    return Row(number, key, kind, str(rest.pop("name", "")), {"text": text, **rest}, pictures)


def _kind_of(pictures: Mapping[str, Any], fields: Mapping[str, Any]) -> str:
    if "control_image" in pictures:
        return "controlnet"
    if "mask" in pictures or "area" in fields:
        return "inpaint"
    return "img2img" if "image" in pictures else "generate"


def _located(text: str, folder: Path) -> str | Path:
    return text if text.startswith(_ADDRESSES) else folder / text
