"""`Prefer: wait=n` (RFC 7240) for every endpoint that submits: answer with the finished task when it ends within n
seconds.

A submitting view marks its 202 answer with the task's id; here the answer is held back, without a thread, until the
task ended.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import async_only_middleware

from generation import services
from generation.api import watching
from generation.api.envelope import enveloped, json_bytes
from generation.models import Task
from generation.representation import task_body

_WAIT = re.compile(r"\bwait\s*=\s*(\d{1,5})\b")
Handler = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@async_only_middleware
def prefer_wait(get_response: Handler) -> Handler:
    """Middleware: see the module."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        response = await get_response(request)
        task_id = getattr(response, "submitted_task_id", None)
        seconds = wanted_seconds(request)
        if task_id is None or not seconds or response.status_code != 202:
            return response
        if not await watching.until_ended(task_id, seconds):
            response["Preference-Applied"] = f"wait={seconds:g}"
            return response
        finished = HttpResponse(await sync_to_async(_finished)(request, task_id), content_type="application/json")
        finished["Preference-Applied"] = f"wait={seconds:g}"
        finished["Location"] = response["Location"]
        return finished

    return middleware


def wanted_seconds(request: HttpRequest) -> float:
    """The n of `Prefer: wait=n`, at most MAX_WAIT_SECONDS; 0 when the client does not ask."""
    found = _WAIT.search(request.headers.get("Prefer", ""))
    return min(float(found[1]), settings.MAX_WAIT_SECONDS) if found else 0.0


def _finished(request: HttpRequest, task_id: Any) -> bytes:
    task = Task.objects.get(pk=task_id)
    images = services.images_of([task.id])[task.id]
    return json_bytes(enveloped(task_body(task, images, base_url=base_url(request))))


def base_url(request: HttpRequest) -> str:
    """What links in answers begin with: PUBLIC_URL, else the address that the client used."""
    return settings.PUBLIC_URL or f"{request.scheme}://{request.get_host()}"
