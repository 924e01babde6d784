"""`/v1/images/generations`, `/v1/images/edits`, `/v1/images/variations`, `/v1/models`: OpenAI's Images API."""

from typing import Any, ClassVar, Final

from django.conf import settings
from rest_framework.response import Response

from generation.api.authentication import KeyRequest
from generation.api.validation import JSONParser, MultiPartParser
from generation.api.wait import base_url
from generation.catalogue.kinds import Kind, of_pictures
from generation.catalogue.models import ImageModel
from generation.compat.base import CompatView, catalogue_of
from generation.compat.openai import form, streaming
from generation.tasks.inputs import GivenMask, MaskRule
from imagegenx_site.errors import ApiError, Fault, InvalidRequest, NotFound

_PICTURES: Final = ("image", "image[]", "images")
_NO_PROMPT: Final = "picture"  # of a variation: models read some text, and this says next to nothing
_VARIED: Final = 0.4  # strength of a variation


class OpenAiView(CompatView):
    """Errors as OpenAI has them."""

    def failure(self, error: ApiError) -> dict[str, Any]:
        return form.error_body(error)

    def pictures(
        self, request: KeyRequest, body: dict[str, Any], kind: Kind, asked: dict[str, Any], event: str
    ) -> Response:
        """The pictures of a request in one answer, or as a stream whose events have names that begin with `event`."""
        base = base_url(request)
        if not form.wants_stream(asked):
            return self.generate(request, body, kind, lambda task, images: form.answer(task, images, asked, base))
        wish = streaming.StreamRequest(event, asked, form.partial_images(asked))
        body["params"]["preview"] = wish.partial > 0
        return self.submit(request, body, kind, lambda task_id: streaming.response(self, task_id, wish))


class NoSuchModel(NotFound):
    """OpenAI's word for it."""

    code = "model_not_found"


class GenerationsView(OpenAiView):
    """A text to pictures."""

    def post(self, request: KeyRequest) -> Response:
        """`client.images.generate(...)`."""
        asked = _object(request.data)
        kind = of_pictures(())
        _check_model(request, asked, kind.name)
        body = form.generation_body(asked, catalogue_of(request), kind)
        return self.pictures(request, body, kind, asked, "image_generation")


class EditsView(OpenAiView):
    """A picture, and a mask or none, to pictures."""

    parser_classes = [MultiPartParser, JSONParser]

    def post(self, request: KeyRequest) -> Response:
        """`client.images.edit(...)`."""
        asked = _object(request.data)
        picture = _picture(request.data)
        mask = _given(asked.get("mask"))
        kind = of_pictures(("image", "mask") if mask else ("image",))
        fields = {name: value for name, value in asked.items() if name not in (*_PICTURES, "mask")}
        _check_model(request, asked, kind.name)
        body = form.generation_body(fields, catalogue_of(request), kind)
        body["image"] = picture
        if mask:
            body["mask"] = GivenMask(mask, MaskRule.TRANSPARENT)
        return self.pictures(request, body, kind, fields, "image_edit")


class VariationsView(OpenAiView):
    """A picture to pictures that are like it."""

    parser_classes = [MultiPartParser, JSONParser]

    def post(self, request: KeyRequest) -> Response:
        """`client.images.create_variation(...)`."""
        asked = _object(request.data)
        kind = of_pictures(("image",))
        fields = {name: value for name, value in asked.items() if name not in _PICTURES}
        _check_model(request, asked, kind.name)
        body = form.generation_body({"prompt": _NO_PROMPT, "strength": _VARIED, **fields}, catalogue_of(request), kind)
        body["image"] = _picture(request.data)
        return self.pictures(request, body, kind, fields, "image_variation")


class OpenAiModelsView(OpenAiView):
    """The models, and the names that stand for them."""

    scopes: ClassVar = {"GET": "read"}

    def get(self, request: KeyRequest) -> Response:
        """`client.models.list()`."""
        return Response({"object": "list", "data": _entries(request)})


class OpenAiModelView(OpenAiView):
    """One model."""

    scopes: ClassVar = {"GET": "read"}

    def get(self, request: KeyRequest, name: str) -> Response:
        """`client.models.retrieve(name)`."""
        for entry in _entries(request):
            if entry["id"] == name:
                return Response(entry)
        raise NoSuchModel(f"The model {name[:60]!r} does not exist; see /v1/models.")


def _entries(request: KeyRequest) -> list[dict[str, Any]]:
    known = catalogue_of(request)
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


def _check_model(request: KeyRequest, asked: dict[str, Any], kind: str) -> None:
    name = form.with_loras(catalogue_of(request), asked.get("model"))[0]
    if name and form.model_named(catalogue_of(request), name, kind) is None:
        raise NoSuchModel(f"The model {str(name)[:60]!r} does not exist; see /v1/models.")


def _object(data: Any) -> dict[str, Any]:
    if not hasattr(data, "keys"):
        raise InvalidRequest([Fault("", "not_an_object", "The body must be an object.")])
    return {name: data[name] for name in data}


def _picture(data: Any) -> Any:
    """The picture to edit: one part of a form, or one value of JSON, however its name is written. Raises
    InvalidRequest.
    """
    found = []
    for name in _PICTURES:
        values = data.getlist(name) if hasattr(data, "getlist") else data.get(name)
        found += [_given(one) for one in (values if isinstance(values, list) else [values]) if one]
    if not found:
        raise InvalidRequest([Fault("image", "required", "Send the picture.")])
    if len(found) > 1:
        message = f"{len(found)} pictures were sent, and the models of this server read one. Send one request for each."
        raise InvalidRequest([Fault("image", "unsupported_value", message)])
    return found[0]


def _given(value: Any) -> Any:
    """A picture of a JSON body may stand in an object."""
    return value.get("image_url") if isinstance(value, dict) else value
