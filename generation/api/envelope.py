"""The form of every answer: `{"code": 200, "message": "success", "data": ...}`, and of every error in the same
envelope.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any, TypedDict

from django.core.exceptions import (
    DisallowedHost,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    TooManyFieldsSent,
    TooManyFilesSent,
)
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.views.defaults import bad_request as django_bad_request
from django.views.defaults import page_not_found
from django.views.defaults import server_error as django_server_error
from redis.exceptions import RedisError
from rest_framework import exceptions
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from generation.api.requests.addresses import hint
from imagegenx_site.errors import (
    ApiError,
    Busy,
    Fault,
    InvalidRequest,
    NotFound,
    TooLarge,
    TooManyRequests,
    Unauthorised,
)

PROBLEM = "application/problem+json"
_PROGRAMS = ("/api/", "/v1/", "/sdapi/", "/generate", "/status/", "/result/", "/health")
OUTAGE_RETRY_S = 2  # `Retry-After` while a server is away; a restart takes about as long
_log = logging.getLogger(__name__)


class EnvelopeRenderer(JSONRenderer):
    """JSON in the envelope; text in any script is written as it is."""

    ensure_ascii = False

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        response = (renderer_context or {}).get("response")
        if response is not None and response.status_code in (204, 304):
            return b""
        failed = response is not None and response.status_code >= 400
        return super().render(data if failed else enveloped(data), accepted_media_type, renderer_context)


class AlwaysJson(BaseContentNegotiation):
    """Answers JSON whatever `Accept` says: clients that want a picture name the picture's address."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        """The parser for the body's type; JSON when a client names none."""
        if not request.content_type:
            return parsers[0]
        return next((parser for parser in parsers if parser.media_type in request.content_type), None)

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


def enveloped(data: Any) -> dict[str, Any]:
    """A success."""
    return {"code": 200, "message": "success", "data": data}


class FaultBody(TypedDict):
    field: str | None
    code: str
    message: str


class ErrorData(TypedDict):
    errors: list[FaultBody]
    request_id: str | None


class ErrorBody(TypedDict):
    code: int
    message: str
    data: ErrorData


def error_body(error: ApiError, request_id: str | None = None) -> ErrorBody:
    """A failure: the HTTP status, one sentence, and under `data.errors` each fault with field, code and what would be
    right.
    """
    return {
        "code": error.http_status,
        "message": error.message,
        "data": {"errors": error.details()["errors"], "request_id": request_id},
    }


def problem_body(error: ApiError, request_id: str | None = None) -> dict[str, Any]:
    """The same failure as RFC 9457 has it, for clients that accept `application/problem+json`."""
    return {
        "type": f"urn:imagegenx:error:{error.code}",
        "title": error.code.replace("_", " "),
        "status": error.http_status,
        "detail": error.message,
        "request_id": request_id,
        **error.details(),
    }


def exception_handler(raised: Exception, context: dict[str, Any]) -> Response | None:
    """Turn what a view raised into an answer. Unknown exceptions go on to Django (500, logged with the request's
    id).
    """
    error = as_api_error(raised)
    if error is None:
        return None
    request = context["request"]
    request_id = request.headers.get("X-Request-Id")
    if PROBLEM in request.headers.get("Accept", ""):
        response = Response(problem_body(error, request_id), status=error.http_status, content_type=PROBLEM)
    else:
        response = Response(error_body(error, request_id), status=error.http_status)
    if isinstance(error, TooManyRequests):
        inner = request._request
        inner.allowances = [*getattr(inner, "allowances", []), *error.allowances]
    if error.retry_after is not None:
        response["Retry-After"] = str(error.retry_after)
    if error.http_status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="ImageGenX"'
    return response


def as_api_error(raised: Exception) -> ApiError | None:
    """What a view raised, as one of our errors; None for what nobody expected."""
    if isinstance(raised, ApiError):
        return raised
    if isinstance(raised, exceptions.NotAuthenticated):
        return Unauthorised("No API key. Send it as `Authorization: Bearer igx_…` or `X-API-Key: igx_…`.")
    if isinstance(raised, exceptions.ParseError):
        return InvalidRequest([Fault("", "not_json", str(raised.detail))])
    if isinstance(raised, exceptions.Throttled):
        return TooManyRequests(str(raised.detail), retry_after=int(getattr(raised, "wait", None) or 1))
    if isinstance(raised, Http404):
        return NotFound("There is nothing at this address. See /api/docs.")
    if isinstance(raised, RequestDataTooBig):
        return TooLarge("The body is larger than this server takes.")
    if isinstance(raised, (TooManyFieldsSent, TooManyFilesSent)):
        return _of_status(400, "too_many_fields", "The form has too many fields or files.")
    if isinstance(raised, DisallowedHost):
        return _of_status(400, "unknown_host", "The server does not answer under this host name.")
    if isinstance(raised, SuspiciousOperation):
        return _of_status(400, "malformed", "The request can't be read.")
    if isinstance(raised, exceptions.APIException):
        return _of_status(raised.status_code, str(raised.default_code), str(raised.detail))
    if isinstance(raised, (OperationalError, InterfaceError, RedisError)):
        _log.error("a server is out of reach: %s: %s", type(raised).__name__, raised)
        return out_of_reach()
    if isinstance(raised, PermissionDenied):
        return _of_status(403, "forbidden", "This key may not do that.")
    return None


def out_of_reach() -> Busy:
    """Postgres or Redis went away, or is not there: the same request can succeed in a moment."""
    return Busy("The service is out of reach for a moment. Send the request again.", retry_after=OUTAGE_RETRY_S)


def _of_status(status: int, code: str, message: str) -> ApiError:
    error = ApiError(message)
    error.http_status, error.code = status, code  # type: ignore[misc]  # this one value only, not the class's
    return error


def json_bytes(body: Mapping[str, Any]) -> bytes:
    """An envelope as bytes, for answers made outside DRF. A lone surrogate is written as its escape."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode(errors="backslashreplace")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's answer for addresses that are none: an envelope where programs call, a page elsewhere."""
    if not request.path.startswith(_PROGRAMS):
        return page_not_found(request, exception)
    error = NotFound(f"There is nothing at this address. {hint(request.path)}")
    body = error_body(error, request.headers.get("X-Request-Id"))
    return HttpResponse(json_bytes(body), status=404, content_type="application/json")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's answer for requests that it refuses itself: a host that is none of ours, too many fields."""
    if not request.path.startswith(_PROGRAMS):
        return django_bad_request(request, exception)
    error = as_api_error(exception) or _of_status(400, "malformed", "The request can't be read.")
    body = error_body(error, request.headers.get("X-Request-Id"))
    return HttpResponse(json_bytes(body), status=400, content_type="application/json")


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's answer when a view broke. The log has the traceback under the request's id."""
    if not request.path.startswith(_PROGRAMS):
        return django_server_error(request)
    error = ApiError("Something broke on our side. Try again; if it stays, report the request id.")
    body = error_body(error, request.headers.get("X-Request-Id"))
    return HttpResponse(json_bytes(body), status=500, content_type="application/json")
