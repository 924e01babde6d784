"""JSON Schema of the types that answers are made of, so that the OpenAPI document says what the code does."""

import types
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from imagegenx_site.schema import COMPONENT, Schema

FILE: Final = "x-file"  # what a field is in a multipart form, where that is another thing (components.py)
_SIMPLE: Final = {str: "string", int: "integer", float: "number", bool: "boolean"}


def schema_of(kind: Any) -> Schema:
    """The schema of a TypedDict, of what its fields may be annotated with, and of lists, dicts and unions of them. In
    `Annotated` a text is the description, a dict further keywords, a function makes another schema of it.
    """
    if is_typeddict(kind):
        return _object(kind)
    if kind is Any:
        return {}
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is None and kind in _SIMPLE:
        return {"type": _SIMPLE[kind]}
    if origin is Annotated:
        schema = schema_of(arguments[0])
        for note in arguments[1:]:
            schema = note(schema) if callable(note) else schema | _keywords(note)
        return schema
    if origin is NotRequired:
        return schema_of(arguments[0])
    if origin is Literal:
        return {**({"type": "string"} if all(isinstance(one, str) for one in arguments) else {}), "enum": [*arguments]}
    if origin in (Union, types.UnionType):
        return _union(arguments)
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    raise TypeError(f"there is no JSON schema for {kind}")


def _keywords(note: str | Schema) -> Schema:
    return {"description": note} if isinstance(note, str) else note


def _object(kind: Any) -> Schema:
    hints = get_type_hints(kind, include_extras=True)
    return {
        COMPONENT: kind.__name__.removesuffix("Body"),
        "type": "object",
        "properties": {name: schema_of(hint) for name, hint in hints.items()},
        "required": [name for name in hints if name in kind.__required_keys__],
    }


def _union(members: tuple[Any, ...]) -> Schema:
    nullable = type(None) in members
    schemas = [schema_of(member) for member in members if member is not type(None)]
    if all(schema.keys() == {"type", "enum"} for schema in schemas):  # words of several types
        schemas = [{"type": "string", "enum": [word for schema in schemas for word in schema["enum"]]}]
    if not nullable:
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    if len(schemas) == 1 and isinstance(schemas[0].get("type"), str) and not {COMPONENT, "enum"} & schemas[0].keys():
        return {**schemas[0], "type": [schemas[0]["type"], "null"]}
    return {"anyOf": [*schemas, {"type": "null"}]}
