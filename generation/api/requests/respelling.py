"""A request's body in whatever spelling -> the same with the names inside (the table: spellings.py).

Bodies that are spelt as inside come back untouched, after a look at their names. Everything else of a field (bounds,
catalogue, plan) is checked by its form, and faults get the client's own names back (`Respelled.as_sent`).
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from rest_framework import serializers

from generation.api.requests import spellings
from generation.api.requests.choices import folded
from generation.api.requests.postprocess_words import read_block
from generation.api.requests.values import Sent, is_absent, merged, parts_of_area, weighted
from generation.catalogue import samplers
from generation.catalogue.kinds import Kind
from generation.catalogue.snapshot import Catalogue
from imagegenx_site.errors import Fault, InvalidRequest

_OWN_FAULTS: Final = ("text", "texts")  # what is empty or null of them is refused in the form's words
_READ: Final = frozenset({"postprocess", "area", "loras"})  # fields whose values have spellings, too


@dataclass(frozen=True)
class Names:
    """The fields of a kind's requests as they are called inside. `lone`: the picture that an `image` alone is."""

    top: frozenset[str]
    params: frozenset[str]
    lone: str


@dataclass
class Respelled:
    """`sent`: where the client wrote what stands at a path inside, for those that were moved or renamed. `warnings`:
    what of the request does not count.
    """

    body: Any
    sent: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def as_sent(self, error: InvalidRequest) -> InvalidRequest:
        """The error with the client's own names."""
        if not self.sent:
            return error
        return InvalidRequest([Fault(self._sent(one.field), one.code, one.message) for one in error.faults])

    def _sent(self, path: str) -> str:
        found = [inside for inside in self.sent if path == inside or path.startswith((f"{inside}.", f"{inside}["))]
        longest = max(found, key=len, default=None)
        return path if longest is None else self.sent[longest] + path[len(longest) :]


@functools.cache
def names_of(form: type[serializers.Serializer], kind: Kind) -> Names:
    """The names of a form."""
    top = form._declared_fields
    params: Any = top["params"]
    needed = [picture.field for picture in kind.pictures if picture.required and picture.field != "image"]
    several = any(picture.field == "image" and picture.required for picture in kind.pictures)
    lone = needed[0] if len(needed) == 1 and not several else ""
    return Names(frozenset(top), frozenset(params.fields), lone)


def respelled(body: Any, form: type[serializers.Serializer], kind: Kind, catalogue: Catalogue) -> Respelled:
    """The body with the names inside. What is no object is left to the form."""
    names = names_of(form, kind)
    params = body.get("params", {}) if isinstance(body, Mapping) else None
    if isinstance(params, str) and not params:
        params = {}
    if not isinstance(params, Mapping | None) or not isinstance(body, Mapping) or _is_inside(body, params, names):
        return Respelled(body)
    return _Pass(names, catalogue).run(body, params or {})


def _is_inside(body: Mapping[str, Any], params: Mapping[str, Any] | None, names: Names) -> bool:
    """Whether there is nothing to do: nearly always, so this is all that it costs then."""
    if params is None or not names.top.issuperset(body) or not names.params.issuperset(params):
        return False
    if not _READ.isdisjoint(params) or (names.lone and "image" in body):
        return False
    return not any(is_absent(one) for one in body.values()) and not any(is_absent(one) for one in params.values())


class _Pass:
    """One body on its way."""

    def __init__(self, names: Names, catalogue: Catalogue) -> None:
        self._names, self._catalogue = names, catalogue
        self._known = (names.top | names.params) - {"params"}
        self._params: dict[str, Any] = {}
        self._done = Respelled({})

    def run(self, body: Mapping[str, Any], params: Mapping[str, Any]) -> Respelled:
        loras: list[Sent] = []
        weights: list[Sent] = []
        block: list[Sent] = []
        rest: list[Sent] = []
        for one in self._given(body, params):
            kept = block if one.name in spellings.BLOCK else rest
            kept = loras if one.name == "loras" else weights if one.name == spellings.LORA_WEIGHT else kept
            kept.append(one)
        found = merged([*rest, *weighted(loras, weights, self._done.faults)], self._same, self._done.faults)
        self._read_area(found)
        if "postprocess" in found or block:
            read_block(found, block, self._done.sent, self._done.faults)
        self._place(found)
        return self._done

    def _given(self, body: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[Sent]:
        """Every field with its name inside; what is absent is left out, and what nobody knows stays where it is."""
        for fields, where, rest in ((body, "", self._done.body), (params, "params.", self._params)):
            for name, value in fields.items():
                inside = self._inside(name)
                if inside is None and not (fields is body and name == "params"):
                    rest[name] = value
                elif inside in _OWN_FAULTS or (inside and not is_absent(value)):
                    yield Sent(inside, f"{where}{name}", value)

    def _inside(self, name: str) -> str | None:
        inside = spellings.FIELDS.get(name, name)
        if inside in self._known:
            return inside
        if name in spellings.BLOCK:
            return spellings.BLOCK[name]
        return name if name == spellings.LORA_WEIGHT else None

    def _same(self, name: str, one: Any, other: Any) -> bool:
        """Whether two values of a field mean the same."""
        if one == other:
            return True
        if not (isinstance(one, str) and isinstance(other, str)):
            return False
        if name == "sampler":
            return samplers.find(one) is not None and samplers.find(one) == samplers.find(other)
        if name == "style":
            style = self._catalogue.style_named(one)
            return style is not None and style is self._catalogue.style_named(other)
        return name in ("control_type", "format", "model") and folded(one) == folded(other)

    def _read_area(self, found: dict[str, Sent]) -> None:
        if (area := found.get("area")) is None:
            return
        value = parts_of_area(area, self._done)
        if value is None:
            del found["area"]
        else:
            found["area"] = Sent(area.name, area.path, value)

    def _place(self, found: dict[str, Sent]) -> None:
        """Into the body and its `params`."""
        lone = self._names.lone
        if lone and "image" in found and not {lone, "mask", "area"} & found.keys():
            found[lone] = found.pop("image")
        for name, one in found.items():
            inner = name in self._names.params
            (self._params if inner else self._done.body)[name] = one.value
            path = f"params.{name}" if inner else name
            if path != one.path:
                self._done.sent[path] = one.path
        if self._params:
            self._done.body["params"] = self._params
