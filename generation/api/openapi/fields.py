"""Fields that say in the OpenAPI document what they take; their forms check it."""

from typing import Any, Final

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from generation.catalogue.parameters import RESOLUTION
from imagegenx_site.http.outbound import MAX_URL

_LONGEST: Final = 20


@extend_schema_field({"type": "string", "maxLength": _LONGEST, "pattern": RESOLUTION, "examples": ["512x512"]})
class ResolutionField(serializers.CharField):
    """Width x height in pixels."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=_LONGEST, **options)


@extend_schema_field({"type": "string", "format": "uri", "maxLength": MAX_URL, "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"})
class AddressField(serializers.CharField):
    """An http:// or https:// address."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=MAX_URL, **options)
