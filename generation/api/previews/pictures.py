"""A picture as a task would use it, before anything is spent: its edges for ControlNet, or under a watermark.

A CPU worker makes it; the request waits on the event loop and holds no thread.
"""

import asyncio
import io
import time
from collections.abc import Callable
from typing import Any, ClassVar, Final

from django.conf import settings
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from PIL.Image import Image as Picture
from rest_framework import serializers

from generation.accounts.models import ApiKey
from generation.api import openapi_docs
from generation.api.authentication import KeyRequest
from generation.api.base import ApiView, Upload
from generation.api.requests.choices import OneOf
from generation.api.validation import StrictSerializer, checked
from generation.api.wait import DeferredResponse
from generation.catalogue import controls
from generation.catalogue.kinds import CONTROL_TYPES
from generation.policy import rules, subjects
from generation.tasks import inputs
from generation.tasks.previews import exchange
from generation.tasks.previews.exchange import Asked
from imagegenx_site.deferred import Deferred, may_defer
from imagegenx_site.errors import Busy, Fault, InvalidRequest, TooManyRequests
from imagegenx_site.slots import Slots, SlotsFull
from postprocessing.recipe import Recipe, RecipeError
from postprocessing.watermark_text import unreadable

PATIENCE_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.05
_PER_USER, _AT_ONCE = 2, 8  # previews that are waited for in one process
_ALL: Final = "all"
_waiting = Slots()


class _Shown(HttpResponse):
    """A picture that a deferred view answers: it needs no rendering."""

    def render(self) -> HttpResponse:
        return self


class WatermarkField(serializers.JSONField):
    """As `params.postprocess.watermark`."""


class PreviewSerializer(StrictSerializer):
    """A picture, and what is to be shown of it."""

    image = serializers.CharField(trim_whitespace=False, help_text="Base64, also as a data: URL.")
    control_type = OneOf(CONTROL_TYPES, required=False, help_text="Show the control picture of this type.")
    control_ready = serializers.BooleanField(required=False, allow_null=True, default=None)
    watermark = WatermarkField(required=False, help_text="Show this watermark: as `params.postprocess.watermark`.")


class PreviewView(ApiView):
    """A picture as it would be used."""

    scopes: ClassVar = {"POST": "generate"}

    @classmethod
    def upload(cls) -> Upload:
        return Upload.of_pictures()

    @extend_schema(
        operation_id="preview",
        summary="Show a control image or a watermark before generating",
        tags=["image"],
        request=PreviewSerializer,
        responses={
            (200, "image/png"): OpenApiResponse(OpenApiTypes.BINARY, "The picture, at most 1024 pixels a side."),
            **openapi_docs.failures(413, 415, 503),
        },
    )
    def post(self, request: KeyRequest) -> HttpResponseBase:
        """Give `control_type` or `watermark`. Depth and pose of a photo are drawn when the task runs, and not shown."""
        values = checked(PreviewSerializer, request.data)
        claims = ((f"user {request.user.pk}", _PER_USER), (_ALL, _AT_ONCE))
        try:
            _waiting.take(*claims)
        except SlotsFull as full:
            raise _too_many(full) from full
        try:
            identifier = exchange.ask(_asked(values, request.auth))
        except BaseException:
            _waiting.give_back(*claims)
            raise
        return _when_made(self, request, identifier, lambda: _waiting.give_back(*claims))


def _too_many(full: SlotsFull) -> TooManyRequests | Busy:
    if full.holder == _ALL:
        return Busy("Too many previews are being made at the moment. Try again.", retry_after=2)
    return TooManyRequests("Your last previews are still being made.", retry_after=1)


def _when_made(view: ApiView, request: KeyRequest, identifier: str, give_back: Callable[[], None]) -> HttpResponseBase:
    """The answer when the worker has made it: at once where a server does not defer."""

    def finish() -> HttpResponse:
        try:
            found = exchange.answer_of(identifier)
            exchange.forget(identifier)
        finally:
            give_back()
        if found is None:
            raise Busy("No worker had time for the preview. Try again.", retry_after=2)
        if found.fault:
            raise InvalidRequest([Fault("watermark", "not_allowed", found.fault)])
        return _Shown(found.picture, content_type="image/png")

    if not may_defer(request._request):
        asyncio.run(_made(identifier))
        return finish()
    response = DeferredResponse(status=202)
    response.deferred = Deferred(
        lambda: _made(identifier),
        lambda _, accepted: view.resume(accepted, finish),  # type: ignore[arg-type]  # a picture
        give_back,
    )
    return response


async def _made(identifier: str) -> bool:
    """Whether the answer came in PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if await asyncio.to_thread(exchange.answered, identifier):
            return True
        await asyncio.sleep(_LOOK_EVERY_S)
    return False


def _asked(values: dict[str, Any], key: ApiKey) -> Asked:
    """Raises InvalidRequest."""
    if ("control_type" in values) == ("watermark" in values):
        raise InvalidRequest([Fault("control_type", "required", "Give either `control_type` or `watermark`.")])
    picture = _picture(values["image"])
    work = _watermark(values, picture, key) if "watermark" in values else _control(values, picture)
    written = io.BytesIO()
    picture.save(written, "PNG", compress_level=1)
    return Asked(written.getvalue(), work)


def _picture(text: str) -> Picture:
    if inputs.is_address(text):
        raise InvalidRequest([Fault("image", "malformed", "Send the picture itself, in base64.")])
    limits = inputs.InputLimits(settings.MAX_INPUT_BYTES, settings.MAX_INPUT_PIXELS)
    try:
        picture = inputs.on_white(inputs.load(text, limits).picture)
    except inputs.InputFault as fault:
        raise InvalidRequest([fault.at("image")]) from fault
    picture.thumbnail((exchange.LARGEST_SIDE, exchange.LARGEST_SIDE))
    return picture


def _control(values: dict[str, Any], picture: Picture) -> dict[str, Any]:
    kind, ready = values["control_type"], values["control_ready"]
    if kind in ("depth", "openpose") and not (ready or (ready is None and controls.looks_ready(kind, picture))):
        message = f"The {kind} of a photo is drawn when the task runs."
        raise InvalidRequest([Fault("control_type", "not_available", message)])
    return {"control_type": kind, "ready": ready}


def _watermark(values: dict[str, Any], picture: Picture, key: ApiKey) -> dict[str, Any]:
    try:
        marks = Recipe.from_json({"watermark": values["watermark"]}).watermarks
    except RecipeError as error:
        raise InvalidRequest([Fault("watermark", "not_allowed", str(error))]) from error
    if reasons := unreadable(marks, *picture.size):
        raise InvalidRequest([Fault("watermark", "too_long", reason) for reason in reasons.values()])
    if refused := rules.faults(key, subjects.of_preview(values["watermark"])):
        raise InvalidRequest(refused)
    return {"watermark": values["watermark"]}
