"""Values of fields in other tools' forms: what counts as not given, LoRAs with their weights, areas."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from generation.api.requests import spellings
from imagegenx_site.errors import Fault

_SIDES: Final = ("x", "y", "width", "height")


@dataclass(frozen=True)
class Sent:
    """A field as it came: its name inside, where the client wrote it, and its value."""

    name: str
    path: str
    value: Any


class SpellingNotes(Protocol):
    """Where faults and warnings go."""

    faults: list[Fault]
    warnings: list[str]


def is_absent(value: Any) -> bool:
    """What means "not given": null, an empty text, an object that is switched off."""
    if value is None or (isinstance(value, str) and not value):
        return True
    return isinstance(value, Mapping) and any(value.get(word) is False for word in spellings.OFF)


def merged(given: Iterable[Sent], same: Callable[[str, Any, Any], bool], faults: list[Fault]) -> dict[str, Sent]:
    """One value for each name. Two that do not mean the same are a fault that names both."""
    found: dict[str, Sent] = {}
    for one in given:
        first = found.setdefault(one.name, one)
        if first is not one and not same(one.name, first.value, one.value):
            message = f"`{first.path}` and `{one.path}` say different things. Give one of them."
            faults.append(Fault(one.path, "given_twice", message))
    return found


def weighted(loras: Sequence[Sent], weights: Sequence[Sent], faults: list[Fault]) -> list[Sent]:
    """`loras` as lists, with the weights that stand beside them."""
    lists = [Sent(one.name, one.path, _listed(one.value)) for one in loras]
    if not weights:
        return lists
    weight = next(iter(merged(weights, lambda _, one, other: bool(one == other), faults).values()))
    if not lists:
        faults.append(Fault(weight.path, "required", f"`{weight.path}` needs `lora_name`."))
        return []
    return [Sent(one.name, one.path, _with_weights(one, weight, faults)) for one in lists]


def _listed(value: Any) -> Any:
    """`a,b` as a list; what is neither text nor list is left to the form."""
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


def _with_weights(names: Sent, weight: Sent, faults: list[Fault]) -> Any:
    if not isinstance(names.value, list):
        return names.value
    count = len(names.value)
    several = weight.value if isinstance(weight.value, list) else [weight.value] * count
    if len(several) != count:
        message = f"`{weight.path}` has {len(several)} numbers and `{names.path}` {count} names."
        faults.append(Fault(weight.path, "out_of_range", message))
        return names.value
    pairs = zip(names.value, map(_number, several), strict=True)
    return [{"name": name, "weight": one} if isinstance(name, str) else name for name, one in pairs]


def _number(value: Any) -> Any:
    """Multipart forms carry numbers as texts."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def parts_of_area(area: Sent, notes: SpellingNotes) -> Any:
    """The rectangle as left, top, width and height; None for a word that names none."""
    value = area.value
    word = value.strip().casefold() if isinstance(value, str) else None
    if word in spellings.WHOLE_AREA:
        return None
    if word in spellings.MASKED_AREA:
        notes.warnings.append(f"`{area.path}: {value}` has no effect: the whole picture was looked at, as for `whole`")
        return None
    if word is not None:
        message = "Give [left, top, width, height], an object with x, y, width and height, `whole` or `masked`."
        notes.faults.append(Fault(area.path, "not_allowed", message))
        return None
    if not isinstance(value, Mapping):
        return value
    if value.keys() != set(_SIDES):
        notes.faults.append(Fault(area.path, "malformed", f"Give {', '.join(_SIDES)}, and nothing else."))
        return None
    return [value[name] for name in _SIDES]
