"""The web page: enter a prompt, watch the picture being generated, see earlier ones. It is a client of the API like any
other, except that it gives its key away once, for a session (generation/accounts/page_session.py).
"""

import json

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_http_methods, require_safe

from generation.accounts import page_session
from generation.api.authentication import key_of_text
from generation.api.envelope import error_body, json_bytes
from imagegenx_site.errors import ApiError, Unauthorised

_MAX_BODY = 4096  # bytes


@require_safe
@ensure_csrf_cookie
def create(request: HttpRequest) -> HttpResponse:
    """The page; it differs only by whether this browser has a session."""
    return render(request, "generation/create.html", {"signed_in": page_session.is_open(request)})


@require_http_methods(["POST", "DELETE"])
def session(request: HttpRequest) -> HttpResponse:
    """POST {"key": "igx_…"}: a session for it. DELETE: end it. Both need the page's CSRF token (Django's
    middleware).
    """
    if request.method == "DELETE":
        page_session.end(request)
        return HttpResponse(status=204)
    try:
        page_session.begin(request, key_of_text(request, _sent_key(request)))
    except ApiError as error:
        body = json_bytes(error_body(error, request.headers.get("X-Request-Id")))
        answer = HttpResponse(body, status=error.http_status, content_type="application/json")
        if error.retry_after is not None:
            answer["Retry-After"] = str(error.retry_after)
        return answer
    return JsonResponse({"code": 200, "message": "success", "data": {}})


def _sent_key(request: HttpRequest) -> str:
    try:
        asked = json.loads(request.body if len(request.body) <= _MAX_BODY else b"")
    except (ValueError, RecursionError):
        asked = None
    key = asked.get("key") if isinstance(asked, dict) else None
    if not isinstance(key, str):
        raise Unauthorised('Send {"key": "igx_…"} as JSON.')
    return key.strip()
