"""What a schema builds of its parts: pairs, lists, objects."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from imagegenx_site.errors import Fault
from imagegenx_site.schema.values import Choice, Field, Number, Schema

Rule = Callable[[Mapping[str, Any]], Fault | None]  # over the fields that were right; the fault's field is relative


@dataclass(frozen=True)
class Pair(Field):
    """Two numbers from 0 to `high`."""

    high: float

    @property
    def expected(self) -> str:
        return f"Give two numbers from 0.0 to {self.high}."

    def read(self, value: Any, path: str, faults: list[Fault]) -> tuple[float, float] | None:
        if not isinstance(value, list) or len(value) != 2:
            faults.append(Fault(path, "wrong_type", self.expected))
            return None
        first, second = (Number(0.0, self.high).read(number, path, faults) for number in value)
        return None if first is None or second is None else (first, second)

    def json_schema(self) -> Schema:
        return {"type": "array", "items": Number(0.0, self.high).json_schema(), "minItems": 2, "maxItems": 2}


@dataclass(frozen=True)
class List(Field):
    """`least` to `most` items, read as a tuple; `noun` names them in faults."""

    item: Field
    least: int
    most: int
    noun: str = "items"
    form: str = ""  # the sentence that says what to give
    rule: Callable[[tuple[Any, ...]], str] = lambda items: ""  # what is wrong with right items together

    @property
    def expected(self) -> str:
        return self.form or f"Give a list of {self.least} to {self.most} {self.noun}."

    def read(self, value: Any, path: str, faults: list[Fault]) -> tuple[Any, ...] | None:
        if not isinstance(value, list):
            faults.append(Fault(path, "wrong_type", self.expected))
            return None
        if not self.least <= len(value) <= self.most:
            message = f"It has {len(value)} {self.noun}; it may have {self.least} to {self.most}."
            faults.append(Fault(path, "out_of_range", message))
            return None
        before = len(faults)
        items = tuple(self.item.read(item, f"{path}[{index}]", faults) for index, item in enumerate(value))
        if len(faults) > before:
            return None
        if wrong := self.rule(items):
            faults.append(Fault(path, "invalid", wrong))
            return None
        return items

    def json_schema(self) -> Schema:
        return {"type": "array", "items": self.item.json_schema(), "minItems": self.least, "maxItems": self.most}


@dataclass(frozen=True)
class OneOrList(Field):
    """A list, or its only item without the brackets; read as a tuple."""

    several: List

    @property
    def expected(self) -> str:
        return self.several.expected

    def read(self, value: Any, path: str, faults: list[Fault]) -> tuple[Any, ...] | None:
        if isinstance(value, list):
            return self.several.read(value, path, faults)
        one = self.several.item.read(value, path, faults)
        return None if one is None else (one,)

    def json_schema(self) -> Schema:
        return {"anyOf": [self.several.item.json_schema(), self.several.json_schema()]}


@dataclass(frozen=True)
class WordOr(Field):
    """One of some words, or a value of another form. Other words are not allowed, or (without `refusal`) the other
    form's fault.
    """

    words: tuple[str, ...]
    other: Field
    refusal: str = ""

    @property
    def expected(self) -> str:
        return self.other.expected

    def read(self, value: Any, path: str, faults: list[Fault]) -> Any:
        if isinstance(value, str) and value in self.words:
            return value
        if isinstance(value, str) and self.refusal:
            faults.append(Fault(path, "not_allowed", f"It is {value!r}; {self.refusal}"))
            return None
        return self.other.read(value, path, faults)

    def json_schema(self) -> Schema:
        return {"anyOf": [{"enum": [*self.words]}, self.other.json_schema()]}


@dataclass(frozen=True)
class Object(Field):
    """Named fields. `build` makes the value of them when all are right; `shorthand` names the field that a bare string
    stands for. With `form`, whatever is wrong with its shape is said once, in these words.
    """

    fields: Mapping[str, Field]
    build: Callable[[dict[str, Any]], Any] = lambda values: values
    rules: tuple[Rule, ...] = ()
    shorthand: str = ""
    form: str = ""

    @property
    def expected(self) -> str:
        return self.form or "Give an object."

    def read(self, value: Any, path: str, faults: list[Fault]) -> Any:
        given = {self.shorthand: value} if self.shorthand and isinstance(value, str) else value
        if not isinstance(given, Mapping) or (self.form and not self._has_form(given)):
            faults.append(Fault(path, "wrong_type", self.expected))
            return None
        before = len(faults)
        values = self._values(given, path, faults)
        found = (rule(values) for rule in self.rules)
        faults += [Fault(f"{path}.{fault.field}", fault.code, fault.message) for fault in found if fault]
        for name in sorted(map(str, given.keys() - self.fields.keys())):
            known = ", ".join(sorted(self.fields))
            faults.append(Fault(f"{path}.{name}", "unknown_field", f"There is no such field; there are {known}."))
        return self.build(values) if len(faults) == before else None

    def _values(self, given: Mapping[str, Any], path: str, faults: list[Fault]) -> dict[str, Any]:
        values = {}
        for name, one in self.fields.items():
            value = given.get(name)
            if value is not None:
                read = one.read(value, f"{path}.{name}", faults)
                if read is not None:
                    values[name] = read
            elif one.required:
                faults.append(Fault(f"{path}.{name}", "required", one.expected))
        return values

    def _has_form(self, given: Mapping[str, Any]) -> bool:
        needed = {name for name, one in self.fields.items() if one.required}
        return given.keys() <= self.fields.keys() and all(given.get(name) is not None for name in needed)

    def json_schema(self) -> Schema:
        shape: Schema = {
            "type": "object",
            "properties": {name: one.described() for name, one in self.fields.items()},
            "additionalProperties": False,
        }
        if needed := [name for name, one in self.fields.items() if one.required]:
            shape["required"] = needed
        return {"anyOf": [self.fields[self.shorthand].json_schema(), shape]} if self.shorthand else shape


@dataclass(frozen=True)
class Tagged(Field):
    """An object whose field `tag` says which of several forms it has."""

    tag: str
    forms: Mapping[str, Object]

    @property
    def expected(self) -> str:
        return "Give an object."

    def read(self, value: Any, path: str, faults: list[Fault]) -> Any:
        if not isinstance(value, Mapping):
            faults.append(Fault(path, "wrong_type", self.expected))
            return None
        tag, known = value.get(self.tag), Choice(tuple(self.forms))
        if tag is None:
            faults.append(Fault(f"{path}.{self.tag}", "required", known.expected))
            return None
        word = known.read(tag, f"{path}.{self.tag}", faults)
        return None if word is None else self.forms[word].read(value, path, faults)

    def json_schema(self) -> Schema:
        return {"oneOf": [form.json_schema() for form in self.forms.values()]}


def tagged(tag: str, word: str) -> Mapping[str, Field]:
    """The field that says which form an object has."""
    return {tag: Choice((word,), required=True)}
