"""Reading a JSON object field by field, so that all its faults are found at once."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fault:
    """One thing wrong in a request. `field` is the path, `code` one of docs/postprocessing.md, `message` says what
    would be right.
    """

    field: str
    code: str
    message: str


class Fields:
    """The fields of one JSON object. Each reader answers the value or the default, and notes a fault; `finish` notes
    unknown fields.
    """

    def __init__(self, block: Any, path: str, faults: list[Fault]) -> None:
        self.path = path
        self.faults = faults
        self._read: set[str] = set()
        self._block: Mapping[str, Any] = {}
        if isinstance(block, Mapping):
            self._block = block
        elif block is not None:
            self._fault("", "wrong_type", "Give an object.")

    def number(self, name: str, low: float, high: float, default: float) -> float:
        value = self._take(name)
        if value is None:
            return default
        return self._in_range(name, value, low, high, default)

    def maybe_number(self, name: str, low: float, high: float) -> float | None:
        return None if self._take(name) is None else self.number(name, low, high, low)

    def integer(self, name: str, low: int, high: int, default: int) -> int:
        value = self._take(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            self._fault(name, "wrong_type", f"Give a whole number from {low} to {high}.")
            return default
        return int(self._in_range(name, value, low, high, default))

    def is_word(self, name: str, word: str) -> bool:
        """Whether the field is this word; other values are left to another reader."""
        return self._take(name) == word

    def boolean(self, name: str, default: bool) -> bool:
        value = self._take(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self._fault(name, "wrong_type", "Give true or false.")
            return default
        return value

    def choice(self, name: str, allowed: tuple[Any, ...], default: Any, required: bool = False) -> Any:
        value = self._take(name)
        if value is None:
            if required:
                self._fault(name, "required", f"Give one of {_names(allowed)}.")
            return default
        if type(value) is not type(allowed[0]):
            self._fault(name, "wrong_type", f"Give one of {_names(allowed)}.")
            return default
        if value not in allowed:
            self._fault(name, "not_allowed", f"It is {value!r}; it may be one of {_names(allowed)}.")
            return default
        return value

    def text(self, name: str, longest: int, default: str, required: bool = False, in_bytes: bool = False) -> str:
        value = self._take(name)
        if value is None:
            if required:
                self._fault(name, "required", f"Give 1 to {longest} characters.")
            return default
        if not isinstance(value, str):
            self._fault(name, "wrong_type", "Give a string.")
            return default
        size = len(value.encode(errors="surrogatepass")) if in_bytes else len(value)
        if not 1 <= size <= longest:
            unit = "bytes of UTF-8" if in_bytes else "characters"
            self._fault(name, "out_of_range", f"It has {size} {unit}; it may have 1 to {longest}.")
            return default
        if re.search(r"[\x00-\x09\x0b-\x1f\x7f\ud800-\udfff]", value):
            self._fault(name, "invalid", "Leave out control characters (a line feed is allowed).")
            return default
        return value

    def color(self, name: str, default: str) -> tuple[int, int, int]:
        value = self._take(name)
        if value is not None and not isinstance(value, str):
            self._fault(name, "wrong_type", "Give a string like #1A2B3C.")
        elif value is not None and not re.fullmatch(r"#[0-9A-Fa-f]{6}", value):
            self._fault(name, "invalid", f"It is {value!r}; give a colour like #1A2B3C.")
        else:
            default = value or default
        return int(default[1:3], 16), int(default[3:5], 16), int(default[5:7], 16)

    def other(self, name: str, read: Callable[[Any, str, list[Fault]], Any], default: Any) -> Any:
        """A field of another form: `read(value, path, faults)` gives the value."""
        value = self._take(name)
        return default if value is None else read(value, self._at(name), self.faults)

    def given(self, name: str) -> bool:
        return self._block.get(name) is not None

    def conflict(self, name: str, message: str) -> None:
        self._fault(name, "conflict", message)

    def invalid(self, name: str, message: str) -> None:
        self._fault(name, "invalid", message)

    def finish(self) -> None:
        for name in sorted(map(str, set(self._block) - self._read)):
            self._fault(name, "unknown_field", f"There is no such field; there are {', '.join(sorted(self._read))}.")

    def _take(self, name: str) -> Any:
        self._read.add(name)
        return self._block.get(name)

    def _in_range(self, name: str, value: Any, low: float, high: float, default: float) -> float:
        checked = number_or_fault(value, self._at(name), low, high, self.faults)
        return default if checked is None else checked

    def _fault(self, name: str, code: str, message: str) -> None:
        self.faults.append(Fault(self._at(name), code, message))

    def _at(self, name: str) -> str:
        return f"{self.path}.{name}" if name else self.path


def number_or_fault(value: Any, path: str, low: float, high: float, faults: list[Fault]) -> float | None:
    """The number when it is one within the range; else None, and a fault."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        faults.append(Fault(path, "wrong_type", f"Give a number from {low} to {high}."))
        return None
    if not low <= value <= high:
        faults.append(Fault(path, "out_of_range", f"It is {value}; it may be from {low} to {high}."))
        return None
    return float(value)


def pair_or_fault(value: Any, path: str, high: float, faults: list[Fault]) -> tuple[float, float]:
    """Two numbers from 0 to `high`; a fault for each that is not."""
    if not isinstance(value, list) or len(value) != 2:
        faults.append(Fault(path, "wrong_type", f"Give two numbers from 0.0 to {high}."))
        return 0.0, 0.0
    first, second = (number_or_fault(number, path, 0.0, high, faults) for number in value)
    return first or 0.0, second or 0.0


def _names(allowed: tuple[Any, ...]) -> str:
    return ", ".join(map(str, allowed))
