"""Who is asking: an API key in `Authorization: Bearer`, as the password of `Authorization: Basic`, or in `X-API-Key`; a
signed request; an OAuth access token; or the session of the web page (page_session.py). Wrong ones are counted at every
address of the API (generation/admission/failures.py).
"""

import base64
import hmac
from typing import Final

import structlog
from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from generation.accounts import key_cache, page_session, signatures, uuid_keys
from generation.accounts.models import ApiKey, User
from generation.accounts.oauth import is_alive, key_of_token
from generation.admission import failures, rates
from imagegenx_site.errors import Forbidden, Unauthorised
from imagegenx_site.http.origins import of_another_site

_SAFE: Final = ("GET", "HEAD", "OPTIONS")
_HOW: Final = "Send your key as `Authorization: Bearer igx_…` or `X-API-Key: igx_…`."


class _Ended(Unauthorised):
    """The secret is right, but the key can't be used so."""


class KeyRequest(Request):
    """A request that came with a key: what `request.user` and `request.auth` are behind IsAuthenticated."""

    user: User
    auth: ApiKey


class ApiKeyAuthentication(BaseAuthentication):
    """Sets `request.user` and `request.auth` (the ApiKey row, with its plan at hand)."""

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        key = key_of_request(request._request)
        return (key.user, key) if key else None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="ImageGenX"'


def key_of_request(request: HttpRequest) -> ApiKey | None:
    """The key of a request outside DRF; None when it brings none. Raises Unauthorised, Forbidden for a request of the
    page without its CSRF token, TooManyRequests after too many wrong keys.
    """
    try:
        key = _sent_key(request)
    except Unauthorised as error:
        count_failure(request, _named_key(request), guess=not isinstance(error, _Ended))
        raise
    if key is None:
        key = page_session.key_of(request)
    if key is None:
        return None
    key_cache.record_use(key)
    structlog.contextvars.bind_contextvars(user_id=key.user_id, api_key=key.prefix)
    return key


def key_of_text(request: HttpRequest, text: str) -> ApiKey:
    """The living key behind a text that came otherwise than in a header; a wrong one counts as there."""
    try:
        return find_key(text)
    except Unauthorised as error:
        count_failure(request, _id_in(text), guess=not isinstance(error, _Ended))
        raise


def count_failure(request: HttpRequest, key_id: str = "", *, guess: bool = True) -> None:
    """Something that was sent instead of a valid key; `key_id`: what it claims to be. A key that has ended is no guess.

    Raises TooManyRequests.
    """
    address = rates.client_address(request)
    rates.hit([("ip", f"stranger:{address}")], settings.ANONYMOUS_RPS)
    if guess:
        failures.begin(failures.KEY, key_id, address)


def _named_key(request: HttpRequest) -> str:
    """The id of the key that is claimed; empty when none is."""
    if "X-Signature" in request.headers:
        return request.headers.get("X-Key-Id", "")
    try:
        return _id_in(key_text(request) or "")
    except Unauthorised:
        return ""


def _id_in(text: str) -> str:
    parts = text.split("_", 2)
    return parts[1] if len(parts) == 3 and parts[0] == "igx" else uuid_keys.prefix_in(text)


def _sent_key(request: HttpRequest) -> ApiKey | None:
    if "X-Signature" in request.headers:
        return _of_signature(request)
    text = key_text(request)
    if text is None:
        return None
    key = key_behind(text)
    if key.must_sign:
        raise _Ended("This key takes signed requests only. See docs/api.md, Signed requests.")
    return key


def _of_signature(request: HttpRequest) -> ApiKey:
    """The key that signed the request; the body is checked as it came, before anything reads it."""
    key = key_cache.find(request.headers.get("X-Key-Id", ""))
    if key is None:
        raise Unauthorised(f"X-Key-Id names no key. {_HOW}")
    timestamp, nonce = request.headers.get("X-Timestamp", ""), request.headers.get("X-Nonce", "")
    query = request.META.get("QUERY_STRING", "")
    text = signatures.canonical(request.method or "", request.path, query, timestamp, nonce, request.body)
    given = request.headers["X-Signature"]
    signatures.verify(key.digest, key.prefix, text, given=given, timestamp=timestamp, nonce=nonce)
    check_alive(key)
    return key


def key_text(request: HttpRequest) -> str | None:
    """The key as it was sent; None for none, also where its place is empty (an unset variable of a shell). Raises
    Forbidden for Basic credentials that another site's page made a browser send.
    """
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip() or None
    if scheme.lower() == "basic":
        if request.method not in _SAFE and of_another_site(request.headers):
            raise Forbidden("A page of another site can't use the credentials that a browser keeps for this one.")
        return _password(value) or None
    return request.headers.get("X-API-Key") or request.headers.get("apikey") or None  # the latter is the AI Horde's


def _password(credentials: str) -> str:
    """The password of HTTP Basic, under any user name: for programs that know no other way to send a key."""
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError as error:
        raise Unauthorised(f"The Basic credentials can't be read. {_HOW}") from error


def key_behind(text: str) -> ApiKey:
    """The living key behind what was sent as one: an API key, its UUID form, or an OAuth access token. Raises
    Unauthorised.
    """
    prefix = uuid_keys.prefix_in(text)
    if not prefix:
        return find_key(text) if text.startswith("igx_") else key_of_token(text)
    key = key_cache.find(prefix)
    if key is None or not hmac.compare_digest(uuid_keys.of(key.prefix, key.digest), text):
        raise Unauthorised(f"Unknown API key. {_HOW}")
    check_alive(key)
    return key


def find_key(text: str) -> ApiKey:
    """The living key behind a text. Raises Unauthorised, with the same words for an unknown and a wrong one."""
    parts = text.split("_", 2)
    if len(parts) != 3 or parts[0] != "igx":
        raise Unauthorised(f"This is not an API key. {_HOW}")
    key = key_cache.find(parts[1])
    if key is None or not hmac.compare_digest(key.digest, ApiKey.digest_of(parts[2])):
        raise Unauthorised(f"Unknown API key. {_HOW}")
    check_alive(key)
    return key


def check_alive(key: ApiKey) -> None:
    """Raises Unauthorised for a key that was revoked or has ended."""
    if key.revoked_at is not None:
        raise _Ended("This API key was revoked. Make a new one.")
    if key.expires_at is not None and key.expires_at <= timezone.now():
        raise _Ended("This API key has expired. Make a new one.")
    if not is_alive(key):
        raise _Ended("This API key ended with the application that made it.")
