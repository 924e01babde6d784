"""The span of a request that submits tasks: one for each of its tasks, as each has a trace of its own. A caller's
traceparent becomes a link of it. In the chain of middleware only while traces are on (imagegenx_site/settings.py).
"""

import time
from collections.abc import Iterable
from contextvars import ContextVar
from uuid import UUID

from django.http import HttpRequest

from imagegenx_site.tracing.spans import record
from imagegenx_site.tracing.values import TaskSpan
from imagegenx_site.web.middleware import Steps, middleware

_made: ContextVar[list[UUID] | None] = ContextVar("tasks_of_request", default=None)


def note_tasks(task_ids: Iterable[UUID]) -> None:
    """The present request, if there is one, has made these."""
    if (made := _made.get()) is not None:
        made.extend(task_ids)


@middleware
def traced_requests(request: HttpRequest) -> Steps:
    """From the first middleware to the answer's headers; the wait of `Prefer: wait` is no part of it."""
    began, made = time.time(), list[UUID]()
    token = _made.set(made)
    try:
        response = yield
    finally:
        _made.reset(token)
    if not made:
        return
    caller = request.META.get("HTTP_TRACEPARENT", "")
    attributes = {
        "http.request.method": request.method or "",
        "http.route": request.resolver_match.route if request.resolver_match else "",
        "http.response.status_code": response.status_code,
        "imagegenx.request_id": request.META.get("HTTP_X_REQUEST_ID", ""),
        "imagegenx.tasks": len(made),
    }
    ended = time.time()
    for task_id in made:
        links = (caller,) if caller else ()
        record(TaskSpan(task_id, "request", began, ended, attributes, kind="server", links=links))
