"""API keys by their prefix, with their users, teams and plans.

Rows are kept in Redis (caches.py), where a change takes them away at once. In front of that, this process
remembers each key for KEY_KEPT_S: a busy client sends hundreds of requests a second with one key, and asking Redis and
building five rows costs as much as the rest of its request. So what this process changes holds from its next request
on, and what another process changes (revoking a key, a new plan) holds after KEY_KEPT_S at the latest
(docs/decisions/0006).
"""

from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.utils import timezone

from generation.accounts.models import ApiKey, Plan, Team, User
from imagegenx_site import caches
from imagegenx_site.ttl import TtlMap

_MAX_KEYS: Final = 10_000  # keys remembered, also unknown ones: a bound for those who guess
_USE_WRITTEN_EVERY: Final = timedelta(minutes=1)  # `last_used_at` is written at most so often

_use_written: dict[int, Any] = {}  # key -> when this process last wrote its `last_used_at`


def find(prefix: str) -> ApiKey | None:
    """The key of that prefix, of a user who may still come in; the caller checks expiry and revocation.

    Callers share the row: it is not to be changed.
    """
    if not prefix.isascii() or not prefix.isalnum():
        return None
    return _keys.get(prefix, settings.KEY_KEPT_S)


def record_use(key: ApiKey) -> None:
    """`last_used_at` becomes now, once a minute at most. A kept key may hold an old one, so this
    process remembers what it wrote.
    """
    now = timezone.now()
    last = max(filter(None, (key.last_used_at, _use_written.get(key.pk))), default=None)
    if last is None or now - last > _USE_WRITTEN_EVERY:
        if len(_use_written) > _MAX_KEYS:
            _use_written.clear()
        _use_written[key.pk] = now
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)


def clear() -> None:
    """Something that a key's rights come from is changing, or has changed: ask Redis for each key again."""
    _keys.drop()


def _read(prefix: str) -> ApiKey | None:
    return _key_of(caches.kept_rows(caches.keys(), prefix, lambda: _load_rows(prefix)))


_keys = TtlMap(_read, _MAX_KEYS)


def _key_of(kept: dict[str, Any] | None) -> ApiKey | None:
    if kept is None:
        return None
    key, user = caches.unpacked(ApiKey, kept["key"]), caches.unpacked(User, kept["user"])
    if key is None or user is None or not user.is_active:
        return None
    user.team = caches.unpacked(Team, kept["team"])
    if user.team is not None:
        team_plan = caches.unpacked(Plan, kept["team_plan"])
        assert team_plan is not None
        user.team.plan = team_plan
    key.user, key.plan = user, caches.unpacked(Plan, kept["plan"])
    return key


def _load_rows(prefix: str) -> dict[str, Any] | None:
    """The key's row and all that binds it, as they are cached."""
    rows = ApiKey.objects.select_related("user__team__plan", "plan").filter(prefix=prefix, oauth_client="")
    key = rows.first()
    if key is None:
        return None
    team = key.user.team
    return {
        "key": caches.packed(key),
        "user": caches.packed(key.user, without=("password", "email")),
        "team": caches.packed(team),
        "team_plan": caches.packed(team.plan if team else None),
        "plan": caches.packed(key.plan),
    }
