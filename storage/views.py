"""Serves the signed URLs of stores on local disk, and of spooled pictures."""

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_safe

from imagegenx_site import redis_clients
from imagegenx_site.http.etags import is_known
from storage import keys, signing
from storage.archive import open_or_request
from storage.errors import Archived, BadKey, ObjectNotFound, StoreUnavailable
from storage.openings import openings
from storage.store import get_store
from storage.variants import thumbnail


def _read(key: str) -> bytes:
    """Thumbnails are read from the cache; the opening of an original is recorded."""
    store = get_store("images")
    if keys.parse(key).kind == "thumbs":
        return thumbnail(store, key)
    openings().note(key)
    with open_or_request(store, key, redis_clients.cache_client()) as file:
        return file.read()


@require_safe
async def signed_file(request: HttpRequest, key: str) -> HttpResponseBase:
    """GET /files/{key}?expires=…&signature=…: the object's bytes; 403 for a wrong or expired signature, 404 when it is
    gone.

    Keys contain the hash of their content, so clients may cache the answer for ever, and revalidation reads nothing.
    """
    if not signing.verify(request.path, request.GET.get("expires", ""), request.GET.get("signature", "")):
        return HttpResponse("The link has expired or is not valid; get a new one from the API.\n", "text/plain", 403)
    etag = f'"{key}"'
    if is_known(request, etag):
        return HttpResponse(status=304, headers={"ETag": etag})
    try:
        data = await sync_to_async(_read, thread_sensitive=False)(key)
    except (ObjectNotFound, BadKey):
        return HttpResponse("This picture no longer exists.\n", "text/plain", 404)
    except Archived as error:
        return HttpResponse(f"{error}\n", "text/plain", 202, headers={"Retry-After": str(error.retry_after)})
    except StoreUnavailable:
        return HttpResponse("The store is unreachable; try again.\n", "text/plain", 503, headers={"Retry-After": "5"})
    headers = {
        "ETag": etag,
        "Cache-Control": "private, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
    }
    return HttpResponse(data, content_type=keys.content_type(key), headers=headers)
