"""Pictures of many tasks as one ZIP, streamed in constant memory.

A file is named by its task and the first words of its text, which storage.zips makes safe: no text of a client becomes
a path.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import BinaryIO, ClassVar, Final

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from generation.accounts.models import User
from generation.api import openapi_docs
from generation.api.authentication import KeyRequest
from generation.api.base import ApiView
from generation.api.validation import StrictSerializer, checked
from generation.tasks import access, history
from generation.tasks.models import Task
from imagegenx_site import redis_clients
from imagegenx_site.errors import Conflict, TooManyRequests
from imagegenx_site.slots import Slots, SlotsFull
from storage.archive import open_or_request
from storage.openings import openings
from storage.store import get_store
from storage.zips import ZipEntry, measured, stream_zip, zip_length

_WORDS: Final = 40  # characters of the text in a file's name
MEASURED: Final = 400  # pictures whose sizes are asked for, so that the ZIP has a length; each is a call to the store
_open = Slots()


class DownloadSerializer(StrictSerializer):
    """Which tasks."""

    task_ids = serializers.ListField(child=serializers.CharField(max_length=60), min_length=1, max_length=1000)


class DownloadView(ApiView):
    """Pictures of any tasks."""

    scopes: ClassVar = {"POST": "read"}

    @extend_schema(
        **openapi_docs.download("download", "Download images of several tasks as a ZIP", request=DownloadSerializer)
    )
    def post(self, request: KeyRequest) -> HttpResponseBase | Response:
        """A ZIP of the tasks that succeeded."""
        wanted = checked(DownloadSerializer, request.data)
        done = history.succeeded_of(request.user, wanted["task_ids"])
        if not done:
            raise Conflict("None of these tasks has succeeded yet.", retry_after=2)
        return zip_response(done, "pictures.zip", request.user)


def zip_response(tasks: Sequence[Task], name: str, reader: User) -> StreamingHttpResponse:
    """The archive of the tasks' pictures, read from the store while the client takes it. Raises TooManyRequests."""
    claim = (f"user {reader.pk}", settings.DOWNLOADS_PER_USER)
    try:
        _open.take(claim)
    except SlotsFull as error:
        message = "Too many ZIP files are being read at once. Wait for one of them."
        raise TooManyRequests(message, retry_after=5) from error
    try:
        response = _zip_of(tasks, name)
    except BaseException:
        _open.give_back(claim)
        raise
    _open.give_back_when_closed(response, claim)
    return response


def _zip_of(tasks: Sequence[Task], name: str) -> StreamingHttpResponse:
    images = access.images_of([task.id for task in tasks])
    entries = [
        ZipEntry(f"{task.public_id}-{image.index} {task.text[:_WORDS]}".strip() + f".{image.format}", image.key)
        for task in tasks
        for image in images[task.id]
    ]
    store = get_store("images")

    def open_picture(key: str) -> BinaryIO:
        openings().note(key)
        return open_or_request(store, key, redis_clients.cache_client())

    known = measured(store, entries) if len(entries) <= MEASURED else None
    pieces = stream_zip(store, known or entries, open_picture, sized=known is not None)
    response = StreamingHttpResponse(_asynchronously(pieces), content_type="application/zip")
    if known is not None:
        response["Content-Length"] = str(zip_length(known))
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["X-Accel-Buffering"] = "no"
    return response


async def _asynchronously(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """A synchronous iterator for an ASGI answer: each piece is made in a thread, when the client took the last one."""
    following = sync_to_async(lambda: next(pieces, None), thread_sensitive=False)
    while (piece := await following()) is not None:
        yield piece
