"""Request forms in the OpenAPI document: what is refused by them is refused by their schemas."""

from typing import Any

from drf_spectacular.extensions import OpenApiSerializerExtension

from generation.api.validation import StrictSerializer


class StrictForm(OpenApiSerializerExtension):
    """A form that refuses unknown fields."""

    target_class = StrictSerializer
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        schema: dict[str, Any] = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        instead = getattr(self.target, "instead", None)
        return {**schema, **(_one_of(*instead) if instead else {}), "additionalProperties": False}


def _one_of(field: str, other: str) -> dict[str, Any]:
    """The field is required where the other is not given; not as `anyOf`, which generators take for two types."""
    return {"if": {"not": {"required": [other]}}, "then": {"required": [field]}}
