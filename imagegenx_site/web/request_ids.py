"""Every answer carries `X-Request-Id`: the client's own where it sent one, else a new one. Log lines carry the same."""

import re
from collections.abc import Callable
from typing import Any

import structlog
from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.utils.decorators import sync_and_async_middleware

from imagegenx_site.ids import uuid7

_SANE = re.compile(r"[A-Za-z0-9._~:-]{1,100}")


@sync_and_async_middleware
def request_ids(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware: see the module. First in the chain, so that the log lines of all others have the id."""

    def named(request: HttpRequest) -> str:
        sent = request.META.get("HTTP_X_REQUEST_ID", "")
        name = sent if _SANE.fullmatch(sent) else uuid7().hex
        request.META["HTTP_X_REQUEST_ID"] = name
        request.__dict__.pop("headers", None)  # read anew, should something have read them before
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=name)
        return name

    if iscoroutinefunction(get_response):

        async def asynchronous(request: HttpRequest) -> Any:
            name = named(request)
            response = await get_response(request)
            response["X-Request-Id"] = name
            return response

        return asynchronous

    def synchronous(request: HttpRequest) -> Any:
        name = named(request)
        response = get_response(request)
        response["X-Request-Id"] = name
        return response

    return synchronous
