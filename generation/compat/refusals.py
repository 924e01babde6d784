"""Django's own answers at the addresses of compatible interfaces, each in the form that its programs read: no such
address, a request that can't be read, a view that broke. Elsewhere they are those of generation/api/envelope.py.
"""

from typing import Final

from django.http import HttpRequest, HttpResponse

from generation.api import envelope
from generation.api.envelope import as_api_error, json_bytes
from generation.compat.a1111.views import SdapiView
from generation.compat.base import CompatView
from generation.compat.horde.views import HordeView
from generation.compat.openai.views import OpenAiView
from imagegenx_site.errors import ApiError, Fault, InvalidRequest, NotFound

_DOORS: Final[dict[str, type[CompatView]]] = {
    "/v1/": OpenAiView,
    "/sdapi/": SdapiView,
    "/controlnet/": SdapiView,
    "/api/v2/": HordeView,
}


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """handler404."""
    error = NotFound(f"There is nothing at {request.method} {request.path[:200]}. {envelope.hint(request.path)}")
    return _answer(request, error) or envelope.not_found(request, exception)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """handler400."""
    error = as_api_error(exception) or InvalidRequest([Fault("", "malformed", "The request can't be read.")])
    return _answer(request, error) or envelope.bad_request(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """handler500. The log has the traceback under the request's id."""
    error = ApiError("Something broke on our side. Try again; if it stays, report the request id.")
    return _answer(request, error) or envelope.server_error(request)


def _answer(request: HttpRequest, error: ApiError) -> HttpResponse | None:
    view = next((view for start, view in _DOORS.items() if request.path.startswith(start)), None)
    if view is None:
        return None
    body = json_bytes(view().failure(error))
    return HttpResponse(body, status=error.http_status, content_type="application/json")
