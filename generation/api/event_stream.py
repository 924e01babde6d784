"""Server-sent events of a task: outside DRF, because DRF refuses `Accept: text/event-stream` and answers in threads.

    event      data                                                       id
    task       the task as a poll shows it: first of all, and at the end   of the newest entry at that moment
               if it has changed since
    status     {"status": "running"}                                      of the stream
    progress   {"progress": 40, "step": 8, "steps": 20}                   of the stream
    preview    {"index": 0, "jpeg": "base64..."}, where asked for         of the stream
    enlarging  {"progress": 40}: after success, a larger version is made   of the stream
    updated    {"width": 4096, "height": 4096}: it is there                of the stream
    end        {"status": "succeeded"}: nothing follows                    -

`Last-Event-ID` resumes: what happened since then comes first, as far as the stream reaches back. A comment every
PING_S keeps proxies from closing the connection. Browsers' EventSource can't send headers: they use a token in the
address, good for one task and EVENT_TOKEN_SECONDS.
"""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, ClassVar, Final, TypedDict
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core import signing
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from generation.accounts.plans import plan_of
from generation.admission import rates
from generation.api import openapi_docs
from generation.api.authentication import KeyRequest, count_failure, key_of_request
from generation.api.base import ApiView, require_scope
from generation.api.envelope import error_body, json_bytes, out_of_reach
from generation.api.wait import base_url
from generation.tasks import access, watchers
from generation.tasks.models import Status
from generation.tasks.presentation import PUBLIC_STATUS, Moment
from generation.tasks.view import TaskSnapshot, view_for, view_of
from imagegenx_site.errors import ApiError, NotFound, TooManyRequests, Unauthorised, WrongMethod
from imagegenx_site.ids import from_public
from imagegenx_site.slots import Slots, SlotsFull

PING_S: Final = 15.0
_RETRY_MS: Final = 2000  # what a browser waits before it connects again
_SALT: Final = "generation.tasks.events"
_RESUMES: Final = 4
_open, _resumes = Slots(), Slots()
_log = logging.getLogger(__name__)
_ENTRY_ID: Final = re.compile(r"\d{1,15}-\d{1,10}")


class TokenBody(TypedDict):
    url: str
    token: str
    expires_at: Moment


class EventTokenView(ApiView):
    """Tokens for browsers."""

    scopes: ClassVar = {"POST": "read"}

    @extend_schema(
        **openapi_docs.operation(
            "event-token", "A token for a browser's EventSource", "image", data=TokenBody, also=(404,), request=None
        )
    )
    def post(self, request: KeyRequest, public_id: str) -> Response:
        """An address that a browser can open for some minutes, without a key."""
        task = access.find_task(public_id, request.user)
        token = signing.dumps(task.public_id, salt=_SALT)
        end = timezone.now() + timedelta(seconds=settings.EVENT_TOKEN_SECONDS)
        address = base_url(request) + reverse("task-events", args=[task.public_id])
        body: TokenBody = {
            "url": f"{address}?token={token}",
            "token": token,
            "expires_at": end.isoformat(timespec="seconds"),
        }
        return Response(body)


@csrf_exempt
async def task_events(request: HttpRequest, public_id: str) -> HttpResponseBase:
    """GET: the events of a task, until it has ended."""
    try:
        if request.method != "GET":
            return _failure(request, WrongMethod(f"{request.method} is not for this address. It takes GET."))
        base = base_url(request)
        shown = await sync_to_async(_authorise)(request, public_id)
    except ApiError as error:
        return _failure(request, error)
    except (OperationalError, InterfaceError) as error:
        _log.error("events refused, Postgres is out of reach: %s", error)
        return _failure(request, out_of_reach())
    last = request.headers.get("Last-Event-ID", "")
    stream = _stream(shown, last if _ENTRY_ID.fullmatch(last) else "", base)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    response = StreamingHttpResponse(stream, content_type="text/event-stream; charset=utf-8", headers=headers)
    try:
        _open.hold_until_closed(response, (f"user {shown.user_id}", settings.STREAMS_PER_USER))
    except SlotsFull:
        message = f"{settings.STREAMS_PER_USER} event streams of this account are open. Close some of them."
        return _failure(request, TooManyRequests(message, retry_after=5))
    return response


def _authorise(request: HttpRequest, public_id: str) -> TaskSnapshot:
    """The task, for its token or its owner's key."""
    token = request.GET.get("token")
    if token is not None:
        return _of_token(request, token, public_id)
    key = key_of_request(request)
    if key is None:
        raise Unauthorised("No API key, and no `token` in the address.")
    counters = [("ip", f"{key.user_id}:{rates.client_address(request)}"), ("key", str(key.pk))]
    rates.hit(counters, plan_of(key).requests_per_second)
    require_scope(key, "read")
    return view_for(public_id, key.user, base_url="")


def _of_token(request: HttpRequest, token: str, public_id: str) -> TaskSnapshot:
    try:
        named = signing.loads(token, salt=_SALT, max_age=settings.EVENT_TOKEN_SECONDS)
    except signing.BadSignature as error:
        count_failure(request, guess=not isinstance(error, signing.SignatureExpired))
        raise Unauthorised("The token is not valid, or has expired. Ask for a new one.") from error
    if named != public_id:
        raise Unauthorised("The token belongs to another task.")
    task_id = from_public(public_id)
    if task_id is None:
        raise access.no_task(public_id)
    return view_of(task_id, "")


async def _stream(seen: TaskSnapshot, last: str, base: str) -> AsyncIterator[bytes]:
    """The stream. Subscribe first, then look at the task, so that nothing falls between."""
    yield f"retry: {_RETRY_MS}\n\n".encode()
    reader, task_id = watchers.reader(), seen.task_id
    async with reader.watch(task_id) as queue:
        missed = await _missed(reader, seen, last) if last else []
        for old in missed:
            yield _encode_event(old)
        ended, newest = any(old.is_end for old in missed), missed[-1].id if missed else ""
        sent = ""  # the ETag of the task as the watcher has it
        if not missed:
            shown = await _shown(task_id, base)
            ended, sent = shown.ended, shown.etag
            yield _event("task", shown.body, reader.newest)
        if not ended:
            async for message in _until_ended(queue, newest):
                yield message
        try:
            shown = await _shown(task_id, base)
            while shown.body["enlarging"]:  # the first version is there, a larger one follows
                if shown.etag != sent:
                    sent = shown.etag
                    yield _event("task", shown.body, reader.newest)
                async for message in _until_updated(queue):
                    yield message
                shown = await _shown(task_id, base)
        except NotFound:  # deleted while it was watched: cancelled first
            yield _event("end", {"status": PUBLIC_STATUS[Status.CANCELLED]}, "")
            return
    if shown.etag != sent:
        yield _event("task", shown.body, reader.newest)
    yield _event("end", {"status": shown.body["status"]}, "")


async def _missed(reader: watchers.EventReader, seen: TaskSnapshot, last: str) -> list[watchers.Event]:
    """What happened since the entry `last`; nothing for a user who asks for that too often at once. It may mean to read
    the whole stream, of all tasks: one such reading of a user at a time, and a few of all together.
    """
    claims = ((f"user {seen.user_id}", 1), ("all", _RESUMES))
    try:
        await _resumes.take_in_turn(*claims, seconds=PING_S)
    except SlotsFull:
        return []
    try:
        return await reader.since(seen.task_id, last)
    finally:
        _resumes.give_back(*claims)


async def _until_ended(queue: watchers.Queue, newest: str) -> AsyncIterator[bytes]:
    """The events after entry `newest` until the task has ended."""
    ended = False
    while not ended:
        event = await _next(queue)
        if event is None:
            yield b": ping\n\n"
        elif not event.id or watchers.later(event.id, newest):
            ended = event.is_end
            yield _encode_event(event)


async def _until_updated(queue: watchers.Queue) -> AsyncIterator[bytes]:
    """What happens until the pictures have changed, or until it is time to look."""
    while (event := await _next(queue)) is not None:
        yield _encode_event(event)
        if event.kind == "updated":
            return
    yield b": ping\n\n"


async def _next(queue: watchers.Queue) -> watchers.Event | None:
    """The next event, or None after PING_S."""
    try:
        async with asyncio.timeout(PING_S):
            return await queue.get()
    except TimeoutError:
        return None


def _encode_event(event: watchers.Event) -> bytes:
    data = event.data
    if event.kind == "status":
        data = {**data, "status": PUBLIC_STATUS[Status(data["status"])]}
    return _event(event.kind, data, event.id)


async def _shown(task_id: UUID, base: str) -> TaskSnapshot:
    return await sync_to_async(view_of)(task_id, base)


def _event(kind: str, data: Any, entry_id: str) -> bytes:
    name = f"id: {entry_id}\n" if entry_id else ""
    return f"{name}event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def _failure(request: HttpRequest, error: ApiError) -> HttpResponse:
    body = json_bytes(error_body(error, request.headers.get("X-Request-Id")))
    response = HttpResponse(body, status=error.http_status, content_type="application/json")
    if error.http_status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="ImageGenX"'
    if error.retry_after is not None:
        response["Retry-After"] = str(error.retry_after)
    return response
