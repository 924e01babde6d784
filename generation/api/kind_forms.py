"""The requests of every kind of task beside text-to-image, and how pictures are given in them."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from django.core.files.uploadedfile import UploadedFile
from django.http import QueryDict
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from generation.api.forms import MAX_TEXT, GenerateSerializer, ParamsSerializer
from generation.catalogue.models import ImageModel
from generation.tasks import inputs

CONTROL_TYPES: Final = ("canny", "depth", "openpose")
_PICTURE_HELP: Final = "An http(s) address, base64 (also as a data: URL), or the file of a multipart request."


@extend_schema_field({"type": "string", "description": _PICTURE_HELP})
class PictureField(serializers.Field):
    """A picture as it was given; it is fetched and decoded when everything else about the request is right."""

    default_error_messages: ClassVar = {"not_a_picture": "Give an address, base64, or upload a file."}

    def to_internal_value(self, data: Any) -> inputs.Given:
        if not isinstance(data, str | UploadedFile) or not data:
            self.fail("not_a_picture")
        fault = inputs.form_fault(data)
        if fault:
            raise serializers.ValidationError(fault, code="malformed")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class Img2ImgParams(ParamsSerializer):
    """`params` of an image-to-image request."""

    strength = serializers.FloatField(
        required=False, min_value=0.05, max_value=1, help_text="How much may change: 0.05 little, 1 everything."
    )


class InpaintParams(Img2ImgParams):
    """`params` of an inpainting request."""

    mask_feather = serializers.IntegerField(
        required=False, min_value=0, max_value=64, help_text="Pixels over which the mask's edge is soft."
    )
    area = serializers.ListField(
        child=serializers.IntegerField(min_value=0, max_value=16384),
        required=False,
        min_length=4,
        max_length=4,
        help_text="Instead of a mask: left, top, width and height in pixels of the picture.",
    )


class ControlParams(InpaintParams):
    """`params` of a ControlNet request. Those of an input picture and its mask count where there are such."""

    control_type = serializers.ChoiceField(
        choices=CONTROL_TYPES, required=False, help_text="The model's first when left out."
    )
    control_strength = serializers.FloatField(required=False, min_value=0, max_value=2)
    control_start = serializers.FloatField(
        required=False, min_value=0, max_value=1, help_text="Part of the steps after which the picture begins to count."
    )
    control_end = serializers.FloatField(
        required=False, min_value=0, max_value=1, help_text="Part of the steps after which it counts no more."
    )

    control_ready = serializers.BooleanField(
        required=False,
        help_text="True: the control picture is taken as it is. False: it is a photo. Left out: it is looked at.",
    )

    def validate_control_type(self, control_type: str) -> str:
        model: ImageModel | None = self.context["model"]
        if model and model.control_types and control_type not in model.control_types:
            message = f"{model.name} has no ControlNet of this type. It has: {', '.join(model.control_types)}."
            raise serializers.ValidationError(message, code="not_available")
        return control_type

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("control_start", 0.0) >= values.get("control_end", 1.0):
            fault = serializers.ErrorDetail("`control_end` must be above `control_start`.", "out_of_range")
            raise serializers.ValidationError({"control_end": [fault]})
        return values


class Img2ImgSerializer(GenerateSerializer):
    """An image-to-image request."""

    roles: ClassVar[Mapping[str, str]] = {"image": "image"}

    image = PictureField(help_text=_PICTURE_HELP)
    params = Img2ImgParams(required=False)


class InpaintSerializer(GenerateSerializer):
    """An inpainting request: what the mask shows white, or `params.area`, is painted anew."""

    roles: ClassVar[Mapping[str, str]] = {"image": "image", "mask": "mask"}

    image = PictureField(help_text=_PICTURE_HELP)
    mask = PictureField(required=False, help_text=_PICTURE_HELP)
    params = InpaintParams(required=False)

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        area = values.get("params", {}).get("area")
        if ("mask" in values) == bool(area):
            raise serializers.ValidationError({"mask": [_required("Give either `mask` or `params.area`.")]})
        if area and not (area[2] and area[3]):
            fault = serializers.ErrorDetail("Width and height must be at least 1.", "out_of_range")
            raise serializers.ValidationError({"params": {"area": [fault]}})
        return values


class ControlnetSerializer(GenerateSerializer):
    """A request whose picture keeps the lines, depth or pose of another, and may start from a picture of its own."""

    roles: ClassVar[Mapping[str, str]] = {"image": "image", "mask": "mask", "control_image": "control"}

    control_image = PictureField(help_text=_PICTURE_HELP)
    image = PictureField(required=False, help_text="What to start from. " + _PICTURE_HELP)
    mask = PictureField(required=False, help_text="What of `image` is painted anew: white. " + _PICTURE_HELP)
    params = ControlParams(required=False)

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        if "image" not in values and ("mask" in values or "area" in values.get("params", {})):
            raise serializers.ValidationError({"image": [_required("A mask or an area is one of `image`.")]})
        return values


class BatchSerializer(GenerateSerializer):
    """Up to 100 texts that share everything else. Text number i takes the seed `seed + i * num_images`."""

    text = None  # type: ignore[assignment]  # `texts` stands for it
    texts = serializers.ListField(
        child=serializers.CharField(max_length=MAX_TEXT), min_length=1, max_length=100, help_text="What to draw."
    )
    batch_size = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=16,
        help_text="The most tasks of this batch that may share a forward pass; not set: as many as fit.",
    )


FORMS: Final[Mapping[str, type[GenerateSerializer]]] = {
    "text2img": GenerateSerializer,
    "img2img": Img2ImgSerializer,
    "inpaint": InpaintSerializer,
    "controlnet": ControlnetSerializer,
    "batch": BatchSerializer,
}


def body_of(data: Any) -> Any:
    """A request's body as its serializer takes it. In a multipart form, `params` and `texts` are JSON texts."""
    if not isinstance(data, QueryDict):
        return data
    body: dict[str, Any] = {name: data[name] for name in data}
    for name in ("params", "texts"):
        if isinstance(body.get(name), str):
            body[name] = _json(body[name])
    return body


def _json(text: str) -> Any:
    """The value of a JSON text; the text itself when it is none (the field then says what is wrong)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _required(message: str) -> serializers.ErrorDetail:
    return serializers.ErrorDetail(message, "required")
