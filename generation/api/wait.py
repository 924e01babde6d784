"""Answers that come when their tasks have ended: `Prefer: wait=n` (RFC 7240), and the compatible endpoints."""

import logging
import re
from collections.abc import Callable
from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.response import Response

from generation.api.envelope import enveloped, json_bytes
from generation.tasks import watchers
from generation.tasks.view import view_of
from imagegenx_site.deferred import Deferrable, Deferred
from imagegenx_site.errors import NotFound
from imagegenx_site.http.forwarded import checked_host

_log = logging.getLogger(__name__)
_WAIT = re.compile(r"\bwait\s*=\s*(\d{1,5})\b")


class DeferredResponse(Deferrable, Response):
    """A 202 that the finished tasks' answer may replace (imagegenx_site/deferred.py)."""


def when_ended(
    task_ids: tuple[UUID, ...],
    seconds: float,
    answer: Callable[[bool, HttpResponseBase], HttpResponseBase],
    abandon: Callable[[], None] | None = None,
) -> Deferred:
    """`answer(whether the tasks have ended, the 202)` after `seconds` at most; `abandon` when the client
    disconnects first.
    """
    wait = partial(watchers.until_ended, task_ids, seconds)
    return Deferred(wait, answer, abandon) if abandon else Deferred(wait, answer)


def prefer_wait(request: HttpRequest, response: DeferredResponse, task_id: UUID) -> None:
    """Let the finished task be the answer, if the client asks for that and it ends in time; else the task as it is
    then, with the status that `response` has.
    """
    seconds = requested_seconds(request)
    if not seconds:
        return
    base = base_url(request)

    def answer(ended: bool, accepted: HttpResponseBase) -> HttpResponseBase:
        accepted["Preference-Applied"] = f"wait={seconds:g}"
        try:
            task = view_of(task_id, base)
        except (OperationalError, InterfaceError) as error:
            _log.error("a task can't be shown as it is now, Postgres is out of reach: %s", error)
            return accepted
        except NotFound:  # deleted meanwhile
            return accepted
        now = finished_instead(accepted, json_bytes(enveloped(task.body)), 200 if ended else accepted.status_code)
        if not task.ended:
            now["Retry-After"] = "1"
        if "ETag" in accepted.headers:
            now["ETag"] = task.etag
        return now

    response.deferred = when_ended((task_id,), seconds, answer)


def finished_instead(accepted: HttpResponseBase, body: bytes, status: int = 200) -> HttpResponse:
    """Another answer than the 202, with its headers: the request's id, what is left of the limits."""
    finished = HttpResponse(body, content_type="application/json", status=status)
    for name in set(accepted.headers) - {"Content-Length", "Content-Type", "Retry-After"}:
        finished[name] = accepted[name]
    return finished


def requested_seconds(request: HttpRequest) -> float:
    """The n of `Prefer: wait=n`, at most MAX_WAIT_SECONDS; 0 when the client does not ask."""
    found = _WAIT.search(request.headers.get("Prefer", ""))
    return min(float(found[1]), settings.MAX_WAIT_SECONDS) if found else 0.0


def base_url(request: HttpRequest) -> str:
    """What links in answers begin with: PUBLIC_URL, else the address that the client used. Raises InvalidRequest for
    a Host header that can't be that.
    """
    return settings.PUBLIC_URL or f"{request.scheme}://{checked_host(request)}"
