"""The `postprocess` block in other tools' forms: enlargement by a word, watermarks with a switch and a transparency."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from generation.api.requests import spellings
from generation.api.requests.values import Sent, is_absent, merged
from imagegenx_site.errors import Fault

_PATH: Final = "params.postprocess"
_LEAST_OPACITY: Final = 0.05  # postprocessing/watermark_form.py


def read_block(found: dict[str, Sent], outside: Sequence[Sent], sent: dict[str, str], faults: list[Fault]) -> None:
    """The block among `found`, with its fields that stand outside of it in it."""
    given = found.get("postprocess")
    if given is not None and not isinstance(given.value, Mapping):
        return  # the form says what is wrong
    block: Mapping[str, Any] = given.value if given else {}
    start = given.path if given else _PATH
    inner = [
        Sent(spellings.BLOCK.get(name, name), f"{start}.{name}", value)
        for name, value in block.items()
        if not is_absent(value) and not (name in spellings.OFF and value is True)
    ]
    read = [Sent(one.name, one.path, _value(one, sent, faults)) for one in (*inner, *outside)]
    parts = merged(read, lambda _, one, other: bool(one == other), faults)
    sent.update({f"{_PATH}.{name}": one.path for name, one in parts.items() if one.path != f"{_PATH}.{name}"})
    values = {name: one.value for name, one in parts.items() if one.value is not None}
    found["postprocess"] = Sent("postprocess", start, values)


def _value(one: Sent, sent: dict[str, str], faults: list[Fault]) -> Any:
    if one.name == "upscale":
        return _scale(one, faults)
    if one.name != "watermark":
        return one.value
    if not isinstance(one.value, list):
        return _mark(one, f"{_PATH}.watermark", sent, faults)
    kept = [mark for mark in one.value if not is_absent(mark)]
    return [
        _mark(Sent(one.name, f"{one.path}[{number}]", mark), f"{_PATH}.watermark[{number}]", sent, faults)
        for number, mark in enumerate(kept)
    ] or None


def _scale(one: Sent, faults: list[Fault]) -> Any:
    """`2x` and its like as {"scale": 2}."""
    value = one.value
    if value is False:
        return None
    if isinstance(value, Mapping):
        return {name: part for name, part in value.items() if not (name in spellings.OFF and part is True)}
    word = value.strip().casefold() if isinstance(value, str) else value
    scale = 2 if word is True else spellings.SCALES.get(word) if isinstance(word, str | int) else None
    if scale is None:
        faults.append(Fault(one.path, "not_allowed", 'Give "2x" or "4x".'))
        return None
    return {"scale": scale}


def _mark(one: Sent, inside: str, sent: dict[str, str], faults: list[Fault]) -> Any:
    """A watermark with the names inside; a text alone is its words."""
    if isinstance(one.value, str):
        return {"kind": "text", "text": one.value}
    if not isinstance(one.value, Mapping):
        return one.value
    values = {
        name: value
        for name, value in one.value.items()
        if not is_absent(value) and not (name in spellings.OFF and value is True)
    }
    if spellings.TRANSPARENCY in values:
        path = f"{one.path}.{spellings.TRANSPARENCY}"
        opacity = _opacity(Sent("opacity", path, values.pop(spellings.TRANSPARENCY)), faults)
        both = [Sent("opacity", path, opacity)]
        both += [Sent("opacity", f"{one.path}.opacity", values["opacity"])] if "opacity" in values else []
        values["opacity"] = merged(both, lambda _, a, b: bool(a == b), faults)["opacity"].value
        sent[f"{inside}.opacity"] = path
    if "kind" not in values and {"text", "image"} & values.keys():
        values = {"kind": "text" if "text" in values else "image", **values}
    return values


def _opacity(one: Sent, faults: list[Fault]) -> float:
    """What a transparency in percent leaves; 1 beside a fault."""
    value = one.value
    most = 100 * (1 - _LEAST_OPACITY)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        faults.append(Fault(one.path, "out_of_range", f"A number from 0 to {most:g}, in percent."))
        return 1.0
    return round(1 - value / 100, 4)
