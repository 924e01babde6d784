"""Every answer carries `X-Request-Id`: the client's own where it sent one, else a new one. Log lines carry the same."""

import re

import structlog
from django.http import HttpRequest

from imagegenx_site.ids import uuid7
from imagegenx_site.web.middleware import Steps, middleware

_SANE = re.compile(r"[A-Za-z0-9._~:-]{1,100}")


@middleware
def request_ids(request: HttpRequest) -> Steps:
    """See the module. First in the chain, so that the log lines of all others have the id."""
    sent = request.META.get("HTTP_X_REQUEST_ID", "")
    name = sent if _SANE.fullmatch(sent) else uuid7().hex
    request.META["HTTP_X_REQUEST_ID"] = name
    request.__dict__.pop("headers", None)  # read anew, should something have read them before
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=name)
    response = yield
    response["X-Request-Id"] = name
