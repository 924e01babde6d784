"""The requests of every kind of task, made of the table of kinds, and how pictures are given in them."""

import functools
from typing import Any, ClassVar, Final

from django.core.files.uploadedfile import UploadedFile
from django.http import QueryDict
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from generation.api.bounds import documents
from generation.api.forms import MAX_TEXT, GenerateSerializer, ParamsSerializer
from generation.api.openapi.json_types import FILE
from generation.api.requests import spellings
from generation.api.requests.choices import OneOf
from generation.api.validation import NumberField
from generation.catalogue.kinds import Kind, Option
from generation.catalogue.models import ImageModel
from generation.tasks import inputs
from imagegenx_site.schema import Boolean, Choice, Field, Integer, List, Number

_PICTURE_HELP: Final = "A URL (http or https), base64 (also as a data: URL), or a file of a multipart request."


@extend_schema_field({"type": "string", "minLength": 1, FILE: {"type": "string", "format": "binary"}})
class PictureField(serializers.Field):
    """A picture as it was given; it is fetched and decoded when everything else about the request is right."""

    default_error_messages: ClassVar = {"not_a_picture": "Give an address, base64, or upload a file."}

    def to_internal_value(self, data: Any) -> inputs.Given:
        sent = data.sent if isinstance(data, inputs.GivenMask) else data  # from a compatible API, never from JSON
        if not isinstance(sent, str | UploadedFile) or not sent:
            self.fail("not_a_picture")
        fault = inputs.form_fault(sent)
        if fault:
            raise serializers.ValidationError(fault, code="malformed")
        checked: inputs.Given = data
        return checked

    def to_representation(self, value: Any) -> Any:
        return value


class KindParams(ParamsSerializer):
    """`params` of a kind that has options of its own; `form_of` adds their fields."""

    kind: ClassVar[Kind]

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        for option in self.kind.options:
            lower = self.kind.option(option.above)
            if lower and values.get(lower.name, lower.default) >= values.get(option.name, option.default):
                raise _fault_at(option.name, "out_of_range", f"`{option.name}` must be above `{lower.name}`.")
        return super().validate(values)


class KindSerializer(GenerateSerializer):
    """A request of one kind, with its pictures; `form_of` adds their fields."""

    kind: ClassVar[Kind]

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        params = values.get("params", {})
        for picture in self.kind.pictures:
            option = self.kind.drawn_by(picture.role)
            drawn = params.get(option.name) if option else None
            if option and picture.required and picture.field not in values and not drawn:
                raise _fault_at(picture.field, "required", f"Give `{picture.field}` or `params.{option.name}`.")
            if picture.part_of and picture.part_of not in values and (picture.field in values or drawn):
                message = f"A {picture.field} needs `{picture.part_of}`."
                raise _fault_at(picture.part_of, "required", message)
            if option and drawn and not (drawn[2] and drawn[3]):
                fault = serializers.ErrorDetail("Width and height must be at least 1.", "out_of_range")
                raise serializers.ValidationError({"params": {option.name: [fault]}})
        return values


class BatchSerializer(KindSerializer):
    """A request of many texts."""

    text = None  # type: ignore[assignment]  # `texts` stands for it
    texts = serializers.ListField(
        child=serializers.CharField(max_length=MAX_TEXT), min_length=1, max_length=100, help_text="The prompts."
    )
    batch_size = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=16,
        help_text="Largest number of this batch's tasks in one forward pass. Default: as many as fit.",
    )


@functools.cache
def form_of(kind: Kind) -> type[KindSerializer]:
    """The form of a kind's requests."""
    name = kind.path.title().replace("-", "")
    fields: dict[str, Any] = {"__doc__": kind.description, "kind": kind}
    for picture in kind.pictures:
        required = picture.required and kind.drawn_by(picture.role) is None
        fields[picture.field] = PictureField(required=required, help_text=f"{picture.help} {_PICTURE_HELP}".strip())
    if kind.options:
        fields["params"] = _params_of(kind, f"{name}Params")(required=False)
    base = BatchSerializer if kind.many_texts else KindSerializer
    return type(f"{name}Serializer", (base,), fields)


def _params_of(kind: Kind, name: str) -> type[KindParams]:
    fields: dict[str, Any] = {"__doc__": f"`params`. {kind.description}", "kind": kind}
    for option in kind.options:
        fields[option.name] = _field_of(option.value)
        if option.of_model:
            fields[f"validate_{option.name}"] = functools.partialmethod(_of_model, option)
    return type(name, (KindParams,), fields)


def _of_model(form: serializers.Serializer, option: Option, value: Any) -> Any:
    """The value, if it is among those that the model offers."""
    model: ImageModel | None = form.context["model"]
    offered = getattr(model, option.of_model) if model else []
    if model and offered and value not in offered:
        message = f"{model.name} has no `{option.name}` {value}. It has: {', '.join(offered)}."
        raise serializers.ValidationError(message, code="not_available")
    return value


def _field_of(value: Field) -> serializers.Field:
    """The form's field for a part of a schema."""
    about: dict[str, Any] = {"required": False, "help_text": value.help or None}
    if isinstance(value, Choice):
        return OneOf(value.allowed, also=spellings.CONTROL_TYPES, **about)
    if isinstance(value, Boolean):
        return serializers.BooleanField(**about)
    if isinstance(value, Integer):
        return serializers.IntegerField(min_value=value.low, max_value=value.high, **about)
    if isinstance(value, Number):
        return NumberField(min_value=value.low, max_value=value.high, **about)
    if isinstance(value, List):
        return serializers.ListField(
            child=_field_of(value.item), min_length=value.least, max_length=value.most, **about
        )
    raise TypeError(f"there is no form field for {value}")


def body_of(data: Any) -> Any:
    """A request's body as its serializer takes it. In a multipart form, objects and lists are JSON texts."""
    if not isinstance(data, QueryDict):
        return data
    body: dict[str, Any] = {name: data[name] for name in data}
    for name, value in body.items():
        structured = name in spellings.STRUCTURED and isinstance(value, str) and value.lstrip()[:1] in ("[", "{")
        if structured or (name in ("params", "texts") and isinstance(value, str)):
            body[name] = _value_of(value, name)
    return body


def _value_of(text: str, field: str) -> Any:
    """The value of a JSON text; the text itself when it is none (the field then says what is wrong). Raises
    InvalidRequest.
    """
    try:
        return documents.parse(text.encode(), field)
    except ValueError:
        return text


def _fault_at(field: str, code: str, message: str) -> serializers.ValidationError:
    return serializers.ValidationError({field: [serializers.ErrorDetail(message, code)]})
