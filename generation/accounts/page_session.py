"""Sessions of the web page: a browser gives its API key once, and gets an HttpOnly cookie that stands for it; or its
user signs in with the account (generation/page/sign_in.py).

The session is a row of Django's; it holds the key's id and a digest that only this key has, never the secret. It acts
for the key with all its bounds, at /api/v1 only, and ends with it: revoked, expired, changed to signed requests, user
switched off. Who signed in acts through a key without a secret, one for each user: it is listed among the others, and
to revoke it ends all sessions of the account at the page. Such a session ends with Django's login, also when the
password is changed. Methods that change something need the page's CSRF token in a header, as other sites can make a
browser send the cookie.
"""

import hmac
import secrets
from typing import Final, cast

from django.contrib import auth
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from rest_framework.authentication import CSRFCheck

from generation.accounts import key_cache
from generation.accounts.models import ApiKey, User
from generation.accounts.oauth import is_alive
from imagegenx_site.errors import Forbidden, Unauthorised

_NAME: Final = "page_key"
_PLACE: Final = "/api/v1/"
_SAFE: Final = ("GET", "HEAD", "OPTIONS")


def begin(request: HttpRequest, key: ApiKey) -> None:
    """The browser acts for the key from now on, under a new session id. Raises Unauthorised for one that must sign."""
    if key.must_sign or key.oauth_client or key.of_page:
        raise Unauthorised("This key takes signed requests only: a browser can't use it.")
    if is_of_account(request):  # a browser that is given to a child must not stay signed in
        auth.logout(request)
    request.session[_NAME] = {"prefix": key.prefix, "digest": _mark_of(key)}
    request.session.cycle_key()


def begin_for_account(request: HttpRequest) -> None:
    """The browser acts for the user who has just been logged in (django.contrib.auth.login)."""
    key = _page_key(cast(User, request.user))
    request.session[_NAME] = {"prefix": key.prefix, "digest": _mark_of(key), "account": True}


def is_of_account(request: HttpRequest) -> bool:
    """Whether this browser was signed in with the account, and still is."""
    kept = request.session.get(_NAME) or {}
    return bool(kept.get("account")) and _living(request) is not None


def end(request: HttpRequest) -> None:
    """Forget the key; a login to the admin in the same browser stays, under a new session id, unless the page signed
    it in.
    """
    kept = request.session.pop(_NAME, None) or {}
    if kept.get("account"):
        auth.logout(request)
        return
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
    if key is not None and kept.get("account") and request.user.pk != key.user_id:
        return None  # Django ends a login when the password is changed
    if key is None or key.revoked_at or key.must_sign or (key.expires_at and key.expires_at <= now):
        return None
    return key if hmac.compare_digest(kept["digest"], _mark_of(key)) and is_alive(key) else None


def _page_key(user: User) -> ApiKey:
    """The key through which the user acts at the page: made when it is first needed, and again when it was revoked."""
    made = {"name": "Page", "prefix": secrets.token_hex(ApiKey.PREFIX_BYTES), "digest": secrets.token_hex(32)}
    key, _ = ApiKey.objects.get_or_create(user=user, of_page=True, revoked_at=None, defaults=made)
    return key


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
