"""Who is asking: an API key in `Authorization: Bearer` or `X-API-Key`."""

import hmac
from datetime import timedelta
from typing import Final

from django.http import HttpRequest
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from generation.errors import Unauthorised
from generation.models import ApiKey, User

_USE_NOTED_EVERY: Final = timedelta(minutes=1)  # `last_used_at` is written at most so often
_HOW: Final = "Send your key as `Authorization: Bearer igx_…` or `X-API-Key: igx_…`."


class KeyRequest(Request):
    """A request that came with a key: what `request.user` and `request.auth` are behind IsAuthenticated."""

    user: User
    auth: ApiKey


class ApiKeyAuthentication(BaseAuthentication):
    """Sets `request.user` and `request.auth` (the ApiKey row, with its plan at hand)."""

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        text = key_text(request)
        if text is None:
            return None
        key = find_key(text)
        _note_use(key)
        return key.user, key

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="ImageGenX"'


def key_of_request(request: HttpRequest) -> ApiKey | None:
    """The key of a request outside DRF; None when it brings none. Raises Unauthorised."""
    text = key_text(request)
    key = find_key(text) if text is not None else None
    if key:
        _note_use(key)
    return key


def key_text(request: Request | HttpRequest) -> str | None:
    """The key as it was sent, or None."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    return request.headers.get("X-API-Key")


def find_key(text: str) -> ApiKey:
    """The living key behind a text. Raises Unauthorised, with the same words for an unknown and a wrong one."""
    parts = text.split("_", 2)
    if len(parts) != 3 or parts[0] != "igx":
        raise Unauthorised(f"This is not an API key. {_HOW}")
    rows = ApiKey.objects.select_related("user__team__plan", "plan").filter(prefix=parts[1], user__is_active=True)
    key = rows.first()
    if key is None or not hmac.compare_digest(key.digest, ApiKey.digest_of(parts[2])):
        raise Unauthorised(f"Unknown API key. {_HOW}")
    if key.revoked_at is not None:
        raise Unauthorised("This API key was revoked. Make a new one.")
    if key.expires_at is not None and key.expires_at <= timezone.now():
        raise Unauthorised("This API key has expired. Make a new one.")
    return key


def _note_use(key: ApiKey) -> None:
    now = timezone.now()
    if key.last_used_at is None or now - key.last_used_at > _USE_NOTED_EVERY:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
