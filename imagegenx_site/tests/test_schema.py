"""Schemas: what they read, which faults they note, and that their JSON Schema says the same."""

import json
from typing import Any

import pytest

from imagegenx_site.errors import Fault
from imagegenx_site.schema import Boolean, Choice, Field, Integer, List, Number, Object, Text
from postprocessing.recipe import BLOCK


def read(field: Field, value: Any) -> tuple[Any, dict[str, str]]:
    faults: list[Fault] = []
    return field.read(value, "x", faults), {fault.field: fault.code for fault in faults}


@pytest.mark.parametrize("value", [10**400, -(10**400), 1e300])
def test_a_number_of_any_size_is_out_of_range(value: Any) -> None:
    assert read(Number(0.0, 1.0), value) == (None, {"x": "out_of_range"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "1", [1]])
def test_what_is_no_number_is_of_the_wrong_type(value: Any) -> None:
    assert read(Number(0.0, 1.0), value) == (None, {"x": "wrong_type"})


def test_every_fault_of_an_object_is_noted_at_once() -> None:
    shape = Object({"a": Integer(1, 3), "b": Choice(("x", "y"), required=True), "c": Boolean()})
    assert read(shape, {"a": 4, "c": 1, "d": 0}) == (
        None,
        {"x.a": "out_of_range", "x.b": "required", "x.c": "wrong_type", "x.d": "unknown_field"},
    )
    assert read(shape, {"a": None, "b": "x"}) == ({"b": "x"}, {})


def test_a_shorthand_and_a_form_that_is_refused_in_one_sentence() -> None:
    entry = Object({"name": Text(5, required=True), "weight": Number(0.0, 1.0)}, shorthand="name", form="Give a name.")
    entries = List(entry, 0, 2)
    assert read(entries, ["ink", {"name": "b", "weight": 1}]) == (({"name": "ink"}, {"name": "b", "weight": 1.0}), {})
    assert read(entries, [7, {"nam": "b"}]) == (None, {"x[0]": "wrong_type", "x[1]": "wrong_type"})
    assert read(entries, ["a", "b", "c"]) == (None, {"x": "out_of_range"})


def test_the_json_schema_of_a_recipe_names_every_field_and_is_json() -> None:
    shown = json.loads(json.dumps(BLOCK.json_schema()))
    assert shown["properties"].keys() == BLOCK.fields.keys()
    assert shown["properties"]["contrast"] == {"type": "number", "minimum": 0.5, "maximum": 2.0}
    assert [form["properties"]["kind"]["enum"] for form in shown["properties"]["watermark"]["anyOf"][0]["oneOf"]] == [
        ["text"],
        ["qr"],
        ["image"],
    ]
