"""The pictures of a task, for its owner. `outputs[].url` of the task are addresses that need no key."""

from typing import Final

from django.conf import settings
from django.http import HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from generation.api import openapi_docs
from generation.api.authentication import KeyRequest
from generation.api.base import ApiView
from generation.tasks import access
from generation.tasks.models import Image, Status
from imagegenx_site import redis_clients
from imagegenx_site.errors import Busy, Conflict, Fault, InvalidRequest, NotFound
from imagegenx_site.http.etags import is_known
from postprocessing.thumbnails import small_webp
from storage.archive import check_present, open_or_request
from storage.errors import Archived, StorageError, StoreUnavailable
from storage.keys import content_type
from storage.openings import openings
from storage.store import get_store
from storage.variants import ensure_variant, thumbnail

VARIANTS: Final = ("original", "medium", "thumbnail")


class TaskImageView(ApiView):
    """One picture."""

    @extend_schema(**openapi_docs.picture())
    def get(self, request: KeyRequest, public_id: str) -> HttpResponseBase:
        """The bytes of a picture, or a redirect to where they are; 202 while it comes back from the archive."""
        index, variant = _asked(request)
        image = _find_image(request, public_id, index)
        etag = f'"{image.sha256[:32]}-{variant}"'
        if is_known(request._request, etag):
            return HttpResponse(status=304, headers={"ETag": etag})
        try:
            return _picture(image, variant, etag, redirects=request.query_params.get("redirect") != "false")
        except Archived as error:
            coming = {"status": "archived", "ready_at": error.ready_at.isoformat(timespec="seconds")}
            return Response(coming, status=202, headers={"Retry-After": str(error.retry_after)})
        except StoreUnavailable as error:
            raise Busy("The store is out of reach. Try again in a moment.", retry_after=5) from error
        except StorageError as error:
            raise NotFound("The picture is no longer in the store.") from error


def _asked(request: KeyRequest) -> tuple[int, str]:
    index, variant = request.query_params.get("index", "0"), request.query_params.get("variant", "original")
    faults = []
    if not (index.isascii() and index.isdigit() and len(index) <= 4):
        faults.append(Fault("index", "wrong_type", "The picture's number, from 0."))
    if variant not in VARIANTS:
        faults.append(Fault("variant", "not_allowed", "original, medium (512 pixels) or thumbnail (256 pixels)."))
    if faults:
        raise InvalidRequest(faults)
    return int(index), variant


def _find_image(request: KeyRequest, public_id: str, index: int) -> Image:
    task = access.find_task(public_id, request.user)
    if not task.terminal:
        raise Conflict("The task has not ended: there is no picture yet.", retry_after=1)
    image = task.image_rows.filter(index=index).first()
    if image is None or task.status != Status.SUCCEEDED:
        raise NotFound(f"The task has no picture {index}.")
    return image


def _picture(image: Image, variant: str, etag: str, *, redirects: bool) -> HttpResponseBase:
    """Thumbnails from the cache; others from the store, by its own signed address where it has one. The medium variant
    is made when it is first asked for. Without `redirects` this server sends them all. Raises Archived, and other
    StorageErrors.
    """
    store, redis = get_store("images"), redis_clients.text_client()
    if variant == "thumbnail":
        return _bytes(thumbnail(store, image.thumbnail_key), image.thumbnail_key, etag)
    key = ensure_variant(store, image.key, "medium", redis, small_webp) if variant == "medium" else image.key
    openings().note(key)
    if image.archived_at:
        check_present(store, key, redis)
    address = store.url(key, settings.URL_SECONDS)
    if redirects and address.startswith("http"):
        return HttpResponseRedirect(address)
    with open_or_request(store, key, redis) as file:
        return _bytes(file.read(), key, etag)


def _bytes(data: bytes, key: str, etag: str) -> HttpResponse:
    headers = {"ETag": etag, "Cache-Control": "private, max-age=3600, immutable", "X-Content-Type-Options": "nosniff"}
    return HttpResponse(data, content_type=content_type(key), headers=headers)
