"""The requests of every kind of task, made of the table of kinds, and how pictures are given in them."""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from django.core.files.uploadedfile import UploadedFile
from django.http import QueryDict
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from generation.accounts import plans
from generation.api.bounds import documents
from generation.api.forms import (
    MAX_TEXT,
    BlockParams,
    GenerateSerializer,
    ParamsSerializer,
    RequestSerializer,
)
from generation.api.openapi.json_types import FILE
from generation.api.requests import spellings
from generation.api.requests.choices import OneOf, WholeNumber
from generation.api.validation import NumberField
from generation.catalogue.kinds import Kind, Option
from generation.catalogue.models import ImageModel
from generation.tasks import inputs
from imagegenx_site.errors import Fault
from imagegenx_site.schema import Boolean, Choice, Field, Integer, List, Number

SEVERAL: Final = "images"  # field
MOST_PICTURES: Final = 16  # in it
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


@extend_schema_field(
    {
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "minItems": 1,
        "maxItems": MOST_PICTURES,
        "description": "Instead of `image`: each makes a task, and the answer is their batch.",
        FILE: {"type": "array", "items": {"type": "string", "format": "binary"}, "maxItems": MOST_PICTURES},
    }
)
class PicturesField(serializers.ListField):
    """Several pictures."""

    def __init__(self, **about: Any) -> None:
        super().__init__(child=PictureField(), min_length=1, max_length=MOST_PICTURES, **about)


class OptionRules(serializers.Serializer):
    """`params` of a kind that has options of its own; `form_of` adds their fields."""

    kind: ClassVar[Kind]

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        for option in self.kind.options:
            lower = self.kind.option(option.above)
            if lower and values.get(lower.name, lower.default) >= values.get(option.name, option.default):
                raise _fault_at(option.name, "out_of_range", f"`{option.name}` must be above `{lower.name}`.")
        return super().validate(values)


class PictureRules(serializers.Serializer):
    """A request of one kind, with its pictures; `form_of` adds their fields."""

    kind: ClassVar[Kind]

    def to_internal_value(self, data: Any) -> Any:
        """One of `image` and `images` is needed; said together with every other fault."""
        missing = several(self.kind) and isinstance(data, Mapping) and not {"image", SEVERAL} & data.keys()
        fault = {"image": [serializers.ErrorDetail("This field is required.", "required")]}
        try:
            values = super().to_internal_value(data)
        except serializers.ValidationError as error:
            raise serializers.ValidationError({**error.detail, **(fault if missing else {})}) from None  # type: ignore[dict-item]
        if missing:
            raise serializers.ValidationError(fault)
        return values

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        params = values.get("params", {})
        if several(self.kind) and SEVERAL in values:
            if "image" in values:
                raise _fault_at(SEVERAL, "conflict", f"Give `image` or `{SEVERAL}`.")
            values = {**values, "image": values[SEVERAL][0]}
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


class KindParams(OptionRules, ParamsSerializer):
    """Of a kind that draws."""


class KindSerializer(PictureRules, GenerateSerializer):
    """Of a kind that draws."""


class ProcessedParams(OptionRules, BlockParams):
    """Of a kind whose pictures are only processed."""


class ProcessedSerializer(PictureRules, RequestSerializer):
    """Of a kind whose pictures are only processed: its `params` get the whole block."""

    params = BlockParams(required=False)

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        values = super().validate(values)
        params = values.get("params", {})
        assert self.kind.block is not None
        block = self.kind.block(params)
        asked = params.get("postprocess", {}).get("upscale") or {}
        faults = plans.faults(self.context["plan"], upscale="upscale" in block)
        if "scale" in params and asked and asked["scale"] != params["scale"]:
            message = f"`postprocess.upscale` says {asked['scale']}, and `scale` {params['scale']}. Give one of them."
            faults.append(Fault("params.scale", "conflict", message))
        if faults:
            details = [serializers.ErrorDetail(fault.message, fault.code) for fault in faults]
            raise serializers.ValidationError({"params": {"scale": details}})
        return {**values, "params": {**params, "postprocess": block}}


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
def form_of(kind: Kind) -> type[RequestSerializer]:
    """The form of a kind's requests."""
    name = kind.path.title().replace("-", "")
    fields: dict[str, Any] = {"__doc__": kind.description, "kind": kind}
    for picture in kind.pictures:
        required = picture.required and kind.drawn_by(picture.role) is None
        required = required and not (several(kind) and picture.field == "image")
        fields[picture.field] = PictureField(required=required, help_text=f"{picture.help} {_PICTURE_HELP}".strip())
    if several(kind):
        fields["instead"] = ("image", SEVERAL)  # of the first the second may be given (openapi/requests.py)
        fields[SEVERAL] = PicturesField(required=False)
    if kind.options:
        fields["params"] = _params_of(kind, f"{name}Params")(required=False)
    base: type[RequestSerializer] = BatchSerializer if kind.many_texts else KindSerializer
    base = base if kind.needs_model else ProcessedSerializer
    return type(f"{name}Serializer", (base,), fields)


def several(kind: Kind) -> bool:
    """Whether a request may bring several pictures, of which each makes a task of a batch."""
    return any(picture.field == "image" and picture.required for picture in kind.pictures)


def _params_of(kind: Kind, name: str) -> type[serializers.Serializer]:
    fields: dict[str, Any] = {"__doc__": f"`params`. {kind.description}", "kind": kind}
    for option in kind.options:
        fields[option.name] = _field_of(option.value)
        if option.of_model:
            fields[f"validate_{option.name}"] = functools.partialmethod(_of_model, option)
    return type(name, (KindParams if kind.needs_model else ProcessedParams,), fields)


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
    if isinstance(value, Choice) and isinstance(value.allowed[0], int):
        return WholeNumber(value.allowed, **about)
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
    if SEVERAL in body:
        body[SEVERAL] = data.getlist(SEVERAL)
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
