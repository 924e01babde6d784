"""How large a body each address takes, from whom, and how many at once (imagegenx_site/web/bodies.py reads it).

    address                                   from anybody        with a key
    none, GET, health, metrics, pages         SMALL
    login, OAuth, admin                       FORM                staff: 2 MiB, a LoRA file of MAX_LORA_BYTES
    /api/v1, /v1, /sdapi                      FREE_BODY_BYTES
      those that take pictures                FREE_BODY_BYTES     MAX_BODY_BYTES, UPLOADS_PER_USER at once
      /api/v1/lora/upload                     FREE_BODY_BYTES     MAX_LORA_BYTES, LORA_UPLOADS_PER_USER at once

A key is known by the head of a request, before its body is read; that it signed the body is checked afterwards.
"""

import functools
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest, HttpResponse
from django.urls import ResolverMatch

from generation.accounts import key_cache
from generation.accounts.models import ApiKey
from generation.admission import rates
from generation.api.authentication import key_behind, key_text
from generation.api.base import ApiView, Upload
from generation.api.envelope import error_body, json_bytes
from imagegenx_site.errors import ApiError, Forbidden, Unauthorised
from imagegenx_site.ids import uuid7
from imagegenx_site.slots import Claim
from imagegenx_site.web.bodies import BodyRule

SMALL: Final = 16 << 10  # bytes
FORM: Final = 64 << 10
_STAFF_FORM: Final = 2 << 20
_WITH_BODY: Final = ("POST", "PUT", "PATCH", "DELETE")


def rule(match: ResolverMatch | None, method: str) -> BodyRule:
    """What the address takes."""
    if match is None or method not in _WITH_BODY:
        return BodyRule(SMALL)
    view = getattr(match.func, "cls", None)
    if view is not None and issubclass(view, ApiView):
        upload = view.upload()
        if upload is None or upload.most <= settings.FREE_BODY_BYTES:
            return BodyRule(upload.most if upload else settings.FREE_BODY_BYTES)
        return BodyRule(settings.FREE_BODY_BYTES, upload.most, functools.partial(_caller, upload))
    if "admin" in match.namespaces:
        lora = (match.url_name or "").endswith("lora_add")
        return BodyRule(FORM, settings.MAX_LORA_BYTES + _STAFF_FORM if lora else _STAFF_FORM, _staff)
    if "oauth2_provider" in match.namespaces or match.url_name == "login":
        return BodyRule(FORM)
    return BodyRule(SMALL)


def stranger(request: HttpRequest) -> str:
    """The address that a request counts for which nobody was asked about yet."""
    return f"address {rates.client_address(request)}"


def refusal(request: HttpRequest, match: ResolverMatch | None, error: ApiError) -> HttpResponse:
    """The error in the form of its address."""
    name = uuid7().hex
    view: Any = getattr(match.func, "cls", None) if match else None
    body = view().failure(error) if hasattr(view, "failure") else error_body(error, name)
    headers = {"X-Request-Id": name, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return HttpResponse(json_bytes(body), status=error.http_status, content_type="application/json", headers=headers)


def _caller(upload: Upload, request: HttpRequest) -> Claim:
    """The user who holds the upload. Raises Unauthorised; strangers are counted as everywhere."""
    try:
        key = _key_by_head(request)
    except Unauthorised:
        rates.hit([("ip", f"stranger:{rates.client_address(request)}")], settings.ANONYMOUS_RPS)
        raise
    return f"{upload.name} of user {key.user_id}", upload.at_once


def _key_by_head(request: HttpRequest) -> ApiKey:
    if "X-Signature" in request.headers:
        key = key_cache.find(request.headers.get("X-Key-Id", ""))
        if key is None:
            raise Unauthorised("X-Key-Id names no key.")
        return key
    text = key_text(request)
    if text is None:
        raise Unauthorised("A body of this size needs an API key. Send it as `Authorization: Bearer igx_…`.")
    return key_behind(text)


def _staff(request: HttpRequest) -> Claim:
    """The member of staff whose session it is. Raises Forbidden."""
    request.session = SessionStore(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
    user = get_user(request)
    if not (user.is_active and user.is_staff):
        raise Forbidden("Log in to send a form of this size.")
    return f"forms of user {user.pk}", settings.UPLOADS_PER_USER
