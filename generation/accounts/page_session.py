"""Sessions of the web page: a browser gives its API key once, and gets an HttpOnly cookie that stands for it.

The session is a row of Django's; it holds the key's id and a digest that only this key has, never the secret. It acts
for the key with all its bounds, at /api/v1 only, and ends with it: revoked, expired, changed to signed requests, user
switched off. Methods that change something need the page's CSRF token in a header, as other sites can make a browser
send the cookie.
"""

import hmac
from typing import Final

from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from rest_framework.authentication import CSRFCheck

from generation.accounts import key_cache
from generation.accounts.models import ApiKey
from generation.accounts.oauth import is_alive
from imagegenx_site.errors import Forbidden, Unauthorised

_NAME: Final = "page_key"
_PLACE: Final = "/api/v1/"
_SAFE: Final = ("GET", "HEAD", "OPTIONS")


def begin(request: HttpRequest, key: ApiKey) -> None:
    """The browser acts for the key from now on, under a new session id. Raises Unauthorised for one that must sign."""
    if key.must_sign or key.oauth_client:
        raise Unauthorised("This key takes signed requests only: a browser can't use it.")
    request.session[_NAME] = {"prefix": key.prefix, "digest": _mark_of(key)}
    request.session.cycle_key()


def end(request: HttpRequest) -> None:
    """Forget the key; a login to the admin in the same browser stays, under a new session id."""
    request.session.pop(_NAME, None)
    if request.session.is_empty():
        request.session.flush()
    else:
        request.session.cycle_key()


def is_open(request: HttpRequest) -> bool:
    """Whether the browser has a session whose key can still be used."""
    return _living(request) is not None


def key_of(request: HttpRequest) -> ApiKey | None:
    """The key of a request of the page; None when it is none. Raises Forbidden without the CSRF token."""
    if not request.path.startswith(_PLACE):
        return None
    key = _living(request)
    if key is not None and request.method not in _SAFE:
        _check_csrf(request)
    return key


def _living(request: HttpRequest) -> ApiKey | None:
    session: SessionBase | None = getattr(request, "session", None)
    kept = session.get(_NAME) if session is not None and session.session_key else None
    if kept is None:
        return None
    key = key_cache.find(kept["prefix"])
    now = timezone.now()
    if key is None or key.revoked_at or key.must_sign or (key.expires_at and key.expires_at <= now):
        return None
    return key if hmac.compare_digest(kept["digest"], _mark_of(key)) and is_alive(key) else None


def _mark_of(key: ApiKey) -> str:
    """The same for the same secret only, and of no use to who reads it: the whole digest signs requests."""
    return ApiKey.digest_of(f"page:{key.digest}")[:32]


def _check_csrf(request: HttpRequest) -> None:
    """Only the header counts: a form's field would have to be read before the body's own reader."""
    reason: object = "the header X-CSRFToken is missing"
    if request.headers.get("X-CSRFToken"):
        check = CSRFCheck(lambda _: HttpResponse())
        check.process_request(request)
        reason = check.process_view(request, HttpResponse, (), {})
    if reason:
        raise Forbidden(f"The page must send its CSRF token: {reason} Reload the page.")
