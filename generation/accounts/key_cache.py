"""The living API keys, with their users, teams and plans.

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
from imagegenx_site.fresh import FreshMap

_MOST: Final = 10_000  # keys remembered, also unknown ones: a bound for those who guess
_USE_NOTED_EVERY: Final = timedelta(minutes=1)  # `last_used_at` is written at most so often

_noted: dict[int, Any] = {}  # key -> when this process last wrote its `last_used_at`


def living(prefix: str) -> ApiKey | None:
    """The key of that prefix, of a user who may still come in; the caller checks expiry and revocation.

    Callers share the row: it is not to be changed.
    """
    if not prefix.isascii() or not prefix.isalnum():
        return None
    return _keys.get(prefix, settings.KEY_KEPT_S)


def note_use(key: ApiKey) -> None:
    """Write down that the key was used. `last_used_at` of a kept key may be old: this process remembers which it noted
    itself.
    """
    now = timezone.now()
    last = max(filter(None, (key.last_used_at, _noted.get(key.pk))), default=None)
    if last is None or now - last > _USE_NOTED_EVERY:
        if len(_noted) > _MOST:
            _noted.clear()
        _noted[key.pk] = now
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)


def clear() -> None:
    """Something that a key's rights come from is changing, or has changed: ask Redis for each key again."""
    _keys.drop()


def _read(prefix: str) -> ApiKey | None:
    return _of_rows(caches.kept_rows(caches.keys(), prefix, lambda: _rows_of(prefix)))


_keys = FreshMap(_read, _MOST)


def _of_rows(kept: dict[str, Any] | None) -> ApiKey | None:
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


def _rows_of(prefix: str) -> dict[str, Any] | None:
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
