"""`/v1/images/generations`, `/v1/images/edits`, `/v1/models`: OpenAI's Images API."""

from typing import Any, ClassVar, Final

from django.conf import settings
from rest_framework.response import Response

from generation.api.authentication import KeyRequest
from generation.api.validation import JSONParser, MultiPartParser
from generation.api.wait import base_url
from generation.catalogue import snapshot
from generation.catalogue.kinds import of_pictures
from generation.catalogue.models import ImageModel
from generation.compat import openai_form
from generation.compat.base import CompatView
from generation.tasks.inputs import GivenMask, MaskRule
from imagegenx_site.errors import ApiError, Fault, InvalidRequest, NotFound

_PICTURES: Final = ("image", "image[]", "images")


class OpenAiView(CompatView):
    """Errors as OpenAI has them."""

    def failure(self, error: ApiError) -> dict[str, Any]:
        return openai_form.error_body(error)


class NoSuchModel(NotFound):
    """OpenAI's word for it."""

    code = "model_not_found"


class GenerationsView(OpenAiView):
    """A text to pictures."""

    def post(self, request: KeyRequest) -> Response:
        """`client.images.generate(...)`."""
        asked = _object(request.data)
        kind = of_pictures(())
        _check_model(asked, kind.name)
        body = openai_form.generation_body(asked, snapshot.current(), kind)
        base = base_url(request)
        return self.generate(request, body, kind, lambda task, images: openai_form.answer(task, images, asked, base))


class EditsView(OpenAiView):
    """A picture, and a mask or none, to pictures."""

    parser_classes = [MultiPartParser, JSONParser]

    def post(self, request: KeyRequest) -> Response:
        """`client.images.edit(...)`."""
        asked = _object(request.data)
        pictures = _pictures(request.data)
        mask = _given(asked.get("mask"))
        kind = of_pictures(("image", "mask") if mask else ("image",))
        fields = {name: value for name, value in asked.items() if name not in (*_PICTURES, "mask")}
        _check_model(asked, kind.name)
        body = openai_form.generation_body(fields, snapshot.current(), kind)
        body["image"] = pictures[0]
        if mask:
            body["mask"] = GivenMask(mask, MaskRule.TRANSPARENT)
        base = base_url(request)
        return self.generate(request, body, kind, lambda task, images: openai_form.answer(task, images, fields, base))


class OpenAiModelsView(OpenAiView):
    """The models, and the names that stand for them."""

    scopes: ClassVar = {"GET": "read"}

    def get(self, request: KeyRequest) -> Response:
        """`client.models.list()`."""
        return Response({"object": "list", "data": _entries()})


class OpenAiModelView(OpenAiView):
    """One model."""

    scopes: ClassVar = {"GET": "read"}

    def get(self, request: KeyRequest, name: str) -> Response:
        """`client.models.retrieve(name)`."""
        for entry in _entries():
            if entry["id"] == name:
                return Response(entry)
        raise NoSuchModel(f"The model {name[:60]!r} does not exist; see /v1/models.")


def _entries() -> list[dict[str, Any]]:
    known = snapshot.current()
    found: dict[str, ImageModel] = {}
    for model in known.models:
        for name in (model.name, *model.aliases):
            found.setdefault(name, model)
    default = known.default_model(of_pictures(()).name)
    for alias in settings.OPENAI_ALIASES if default else ():
        found.setdefault(alias, default)  # type: ignore[arg-type]
    return [
        {"id": name, "object": "model", "created": int(model.updated_at.timestamp()), "owned_by": model.name}
        for name, model in found.items()
    ]


def _check_model(asked: dict[str, Any], kind: str) -> None:
    name = asked.get("model")
    if name and openai_form.model_named(snapshot.current(), name, kind) is None:
        raise NoSuchModel(f"The model {str(name)[:60]!r} does not exist; see /v1/models.")


def _object(data: Any) -> dict[str, Any]:
    if not hasattr(data, "keys"):
        raise InvalidRequest([Fault("", "not_an_object", "The body must be an object.")])
    return {name: data[name] for name in data}


def _pictures(data: Any) -> list[Any]:
    """The picture to edit: one part of a form, or one value of JSON, however its name is written."""
    found = []
    for name in _PICTURES:
        values = data.getlist(name) if hasattr(data, "getlist") else data.get(name)
        found += [_given(one) for one in (values if isinstance(values, list) else [values]) if one]
    if len(found) != 1:
        raise InvalidRequest([Fault("image", "required", "Send exactly one picture.")])
    return found


def _given(value: Any) -> Any:
    """A picture of a JSON body may stand in an object."""
    return value.get("image_url") if isinstance(value, dict) else value
