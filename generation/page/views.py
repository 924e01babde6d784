"""The web page: make pictures, watch them being generated, sort them, batches, keys and usage; and one for children. It
is a client of the API like any other, except that it gives its key away once, for a session
(generation/accounts/page_session.py). Its modules: generation/static/generation/studio.
"""

import json

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.utils.translation import get_language_from_request
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
    """The page; it differs only by whether this browser has a session, and by its language."""
    return _page(request, "generation/studio.html")


@require_safe
@ensure_csrf_cookie
def kids(request: HttpRequest) -> HttpResponse:
    """The page for children: a session whose key is bound to a child-safe profile, or the children's service."""
    return _page(request, "generation/kids.html")


def _page(request: HttpRequest, template: str) -> HttpResponse:
    shown = {"signed_in": page_session.is_open(request), "language": _language(request)}
    answer = render(request, template, shown)
    patch_vary_headers(answer, ("Accept-Language", "Cookie"))
    return answer


def _language(request: HttpRequest) -> str:
    """That of the cookie which the page and the admin share, else the browser's."""
    return "zh-Hans" if get_language_from_request(request).startswith("zh") else "en"


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
