"""The parts that a schema is built of: numbers, words, texts, colours."""

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Final

from imagegenx_site.errors import Fault

Schema = dict[str, Any]
COMPONENT: Final = "x-component"  # names a schema that the OpenAPI document holds once
_CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\ud800-\udfff]")
_COLOR: Final = re.compile(r"#[0-9A-Fa-f]{6}")


@dataclass(frozen=True)
class Field(ABC):
    """One value. `read` answers None when it has noted a fault."""

    required: bool = field(default=False, kw_only=True)
    help: str = field(default="", kw_only=True)

    @property
    @abstractmethod
    def expected(self) -> str:
        """What to give, in a sentence."""

    @abstractmethod
    def read(self, value: Any, path: str, faults: list[Fault]) -> Any: ...

    @abstractmethod
    def json_schema(self) -> Schema: ...

    def described(self) -> Schema:
        """The JSON Schema with the help text."""
        return {**self.json_schema(), **({"description": self.help} if self.help else {})}


@dataclass(frozen=True)
class Number(Field):
    """A finite number, read as float."""

    low: float
    high: float

    @property
    def expected(self) -> str:
        return f"Give a number from {self.low} to {self.high}."

    def read(self, value: Any, path: str, faults: list[Fault]) -> float | None:
        if not _is_number(value):
            faults.append(Fault(path, "wrong_type", self.expected))
            return None
        return float(value) if _in_range(value, self.low, self.high, path, faults) else None

    def json_schema(self) -> Schema:
        return {"type": "number", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Integer(Field):
    low: int
    high: int

    @property
    def expected(self) -> str:
        return f"Give a whole number from {self.low} to {self.high}."

    def read(self, value: Any, path: str, faults: list[Fault]) -> int | None:
        if not isinstance(value, int) or isinstance(value, bool):
            faults.append(Fault(path, "wrong_type", self.expected))
            return None
        return value if _in_range(value, self.low, self.high, path, faults) else None

    def json_schema(self) -> Schema:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Boolean(Field):
    @property
    def expected(self) -> str:
        return "Give true or false."

    def read(self, value: Any, path: str, faults: list[Fault]) -> bool | None:
        if isinstance(value, bool):
            return value
        faults.append(Fault(path, "wrong_type", self.expected))
        return None

    def json_schema(self) -> Schema:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Choice(Field):
    """One of several values of one type."""

    allowed: tuple[Any, ...]

    @property
    def expected(self) -> str:
        return f"Give one of {self._names}."

    @property
    def _names(self) -> str:
        return ", ".join(map(str, self.allowed))

    def read(self, value: Any, path: str, faults: list[Fault]) -> Any:
        if type(value) is not type(self.allowed[0]):
            faults.append(Fault(path, "wrong_type", self.expected))
        elif value not in self.allowed:
            faults.append(Fault(path, "not_allowed", f"It is {value!r}; it may be one of {self._names}."))
        else:
            return value
        return None

    def json_schema(self) -> Schema:
        return {"enum": list(self.allowed)}


@dataclass(frozen=True)
class Text(Field):
    """1 to `longest` characters, or bytes of UTF-8; of control characters only the line feed."""

    longest: int
    in_bytes: bool = False

    @property
    def expected(self) -> str:
        return f"Give 1 to {self.longest} characters."

    def read(self, value: Any, path: str, faults: list[Fault]) -> Any:
        if not isinstance(value, str):
            faults.append(Fault(path, "wrong_type", "Give a string."))
            return None
        size = len(value.encode(errors="surrogatepass")) if self.in_bytes else len(value)
        if not 1 <= size <= self.longest:
            unit = "bytes of UTF-8" if self.in_bytes else "characters"
            faults.append(Fault(path, "out_of_range", f"It has {size} {unit}; it may have 1 to {self.longest}."))
            return None
        if _CONTROL_CHARACTERS.search(value):
            faults.append(Fault(path, "invalid", "Leave out control characters (a line feed is allowed)."))
            return None
        return value

    def json_schema(self) -> Schema:
        return {"type": "string", "minLength": 1, "maxLength": self.longest}


@dataclass(frozen=True)
class Color(Field):
    """`#RRGGBB`, read as three numbers."""

    @property
    def expected(self) -> str:
        return "Give a string like #1A2B3C."

    def read(self, value: Any, path: str, faults: list[Fault]) -> tuple[int, int, int] | None:
        if not isinstance(value, str):
            faults.append(Fault(path, "wrong_type", self.expected))
            return None
        if not _COLOR.fullmatch(value):
            faults.append(Fault(path, "invalid", f"It is {value!r}; give a colour like #1A2B3C."))
            return None
        return int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)

    def json_schema(self) -> Schema:
        return {"type": "string", "pattern": "^#[0-9A-Fa-f]{6}$"}


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _in_range(value: float, low: float, high: float, path: str, faults: list[Fault]) -> bool:
    if low <= value <= high:
        return True
    shown = value if abs(value) < 1e30 else f"{value:.0e}" if isinstance(value, float) else "too large a number"
    faults.append(Fault(path, "out_of_range", f"It is {shown}; it may be from {low} to {high}."))
    return False
