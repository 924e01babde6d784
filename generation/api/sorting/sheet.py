"""Contact sheets of any pictures (generation/tasks/sorting/sheet.py)."""

from functools import partial
from typing import Any, ClassVar, Final

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers

from generation.accounts.models import ApiKey
from generation.accounts.plans import plan_of
from generation.api import openapi_docs
from generation.api.authentication import KeyRequest
from generation.api.base import ApiView
from generation.api.requests.choices import OneOf
from generation.api.sorting.pictures import PicturesSerializer, references
from generation.api.validation import checked
from generation.tasks import access
from generation.tasks.models import Image
from generation.tasks.sorting import sheet
from generation.tasks.sorting.sheet import Tile
from imagegenx_site.errors import Busy, Conflict, Fault, InvalidRequest, TooManyRequests
from imagegenx_site.slots import Slots, SlotsFull
from storage.errors import ObjectNotFound, StorageError
from storage.store import get_store
from storage.variants import thumbnail

MOST_PICTURES: Final = 200
PER_IMAGE_OF_PLAN: Final = 50  # pictures of a sheet for each that the plan allows in one request
_PER_USER, _AT_ONCE = 1, 2  # sheets being made in one process: each takes a core for seconds
_ALL: Final = "all"
_TYPES: Final = {"webp": "image/webp", "pdf": "application/pdf"}
_making = Slots()


class SheetSerializer(PicturesSerializer):
    """Which pictures, and how they are laid out."""

    format = OneOf(tuple(_TYPES), required=False, default="webp", help_text="One picture, or a PDF of A4 pages.")
    columns = serializers.IntegerField(
        min_value=1, max_value=sheet.MOST_COLUMNS, required=False, help_text="Of the WebP. Default: about square."
    )
    captions = serializers.BooleanField(required=False, default=True, help_text="The prompt below each picture.")


def _described() -> dict[str, Any]:
    binary = OpenApiResponse(OpenApiTypes.BINARY, "The sheet.")
    found = openapi_docs.download("sheet", "Make a contact sheet of images", request=SheetSerializer)
    kept = {status: answer for status, answer in found["responses"].items() if not isinstance(status, tuple)}
    return {**found, "tags": ["sorting"], "responses": {(200, kind): binary for kind in _TYPES.values()} | kept}


class SheetView(ApiView):
    """Pictures side by side."""

    scopes: ClassVar = {"POST": "read"}

    @extend_schema(**_described())
    def post(self, request: KeyRequest) -> HttpResponse:
        """Thumbnails with their prompts. A plan allows 50 for each picture of a request, 200 at most."""
        asked = checked(SheetSerializer, request.data)
        wanted = references(asked)
        _check_count(request.auth, len(wanted))
        _check_columns(asked, len(wanted))
        images = access.find_images(wanted, request.user, change=False)
        name = f'attachment; filename="contact-sheet.{asked["format"]}"'
        data = _made(images, asked, request.user.pk)
        return HttpResponse(data, content_type=_TYPES[asked["format"]], headers={"Content-Disposition": name})


def _check_count(key: ApiKey, count: int) -> None:
    most = min(MOST_PICTURES, PER_IMAGE_OF_PLAN * plan_of(key).max_images)
    if count > most:
        message = f"Your plan allows {most} pictures on one sheet; this would have {count}."
        raise InvalidRequest([Fault("pictures", "above_plan", message)])


def _check_columns(asked: dict[str, Any], count: int) -> None:
    least = sheet.least_columns(count, captions=asked["captions"])
    if asked["format"] == "webp" and asked.get("columns", least) < least:
        message = f"{count} pictures need at least {least} columns: a WebP is at most {sheet.MOST_PIXELS} pixels high."
        raise InvalidRequest([Fault("columns", "out_of_range", message)])


def _made(images: list[Image], asked: dict[str, Any], user_id: int) -> bytes:
    """Raises TooManyRequests, Busy, Conflict."""
    store = get_store("images")
    tiles = [Tile(partial(thumbnail, store, image.thumbnail_key), image.task.text) for image in images]
    try:
        with _making.hold((f"user {user_id}", _PER_USER), (_ALL, _AT_ONCE)):
            if asked["format"] == "pdf":
                return sheet.as_pdf(tiles, captions=asked["captions"])
            return sheet.as_webp(tiles, asked.get("columns", 0), captions=asked["captions"])
    except SlotsFull as full:
        if full.holder == _ALL:
            raise Busy("Too many sheets are being made at the moment. Try again.", retry_after=3) from full
        raise TooManyRequests("Your last sheet is still being made.", retry_after=3) from full
    except ObjectNotFound as error:
        raise Conflict("A picture is no longer in the store.") from error
    except StorageError as error:
        raise Busy("The store is out of reach. Try again in a moment.", retry_after=5) from error
