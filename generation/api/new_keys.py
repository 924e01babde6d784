"""Keys that a key makes, replaces and ends: never one above itself (generation/accounts/rights.py)."""

from datetime import timedelta
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from generation.accounts.models import SCOPES, ApiKey, User
from generation.accounts.rights import Rights
from generation.policy import rules
from generation.policy.models import PolicyProfile
from imagegenx_site.errors import Fault, Forbidden, InvalidRequest, NotFound

MAX_KEYS: Final = 100  # of a user, that can still be used; replaced ones may come on top, as often again


def create(own: ApiKey, asked: dict[str, Any]) -> tuple[ApiKey, str]:
    """A new key and its text, with plan, profile and end of the asking one where `asked` leaves them open. Raises
    Forbidden for what the asking key lacks.
    """
    scopes = asked.get("scopes", own.scopes)
    lacking = [scope for scope in scopes or SCOPES if own.scopes and scope not in own.scopes]
    if lacking:
        raise Forbidden(f"This key can't give away what it lacks: {', '.join(lacking)}.")
    must_sign = asked.get("must_sign", own.must_sign)
    if own.must_sign and not must_sign:
        raise Forbidden("This key takes signed requests only, and so do the keys that it makes.")
    profile_id = _profile(own, asked.get("profile"))
    days = asked.get("expires_in_days")
    end = timezone.now() + timedelta(days=days) if days else own.expires_at
    with transaction.atomic():
        _check_count(own.user, MAX_KEYS)
        return ApiKey.make(
            own.user,
            name=asked["name"],
            scopes=list(scopes),
            expires_at=min(end, own.expires_at) if own.expires_at and end else end,
            plan_id=own.plan_id,
            profile_id=profile_id,
            must_sign=must_sign,
            **_bonds(own),
        )


def _profile(own: ApiKey, name: str | None) -> int | None:
    """The profile that bounds the new key. Raises Forbidden where the asking key has another, InvalidRequest."""
    if name is None:
        return own.profile_id
    row = PolicyProfile.objects.filter(name=name).first()
    if row is None:
        known = ", ".join(PolicyProfile.objects.values_list("name", flat=True))
        raise InvalidRequest([Fault("profile", "not_allowed", f"There is no such profile. Known: {known}.")])
    if own.profile_id not in (None, row.pk):
        raise Forbidden("This key is bound to a profile, and so are the keys that it makes.")
    return row.pk


def rotate(own: ApiKey, key: ApiKey, grace: timedelta) -> tuple[ApiKey, str]:
    """A key with the rights of `key`, which ends after `grace`. Raises Forbidden when it is above the asking key,
    NotFound when it can't be used any more.
    """
    with transaction.atomic():
        _check_count(own.user, 2 * MAX_KEYS)
        key = ApiKey.objects.select_for_update(of=("self",)).select_related("user__team__plan", "plan").get(pk=key.pk)
        now = timezone.now()
        if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
            raise NotFound("This key was revoked, or has expired. Make a new one.")
        _check_not_above(key, own, "replace")
        same = ("plan_id", "scopes", "profile_id", "must_sign", "name", "expires_at")
        made = ApiKey.make(own.user, **{name: getattr(key, name) for name in same}, **_bonds(key))
        key.expires_at = min(now + grace, key.expires_at or now + grace)
        key.save(update_fields=["expires_at"])
    return made


def revoke(own: ApiKey, key: ApiKey) -> ApiKey:
    """The key, ended. Raises Forbidden when it is above the asking one."""
    if key.revoked_at is None:
        _check_not_above(key, own, "revoke")
        key.revoked_at = timezone.now()
        key.save(update_fields=["revoked_at"])
    return key


def _check_not_above(key: ApiKey, own: ApiKey, verb: str) -> None:
    if key.pk == own.pk:
        return
    above = Rights.of(key).above(Rights.of(own), terms=rules.keys_with_terms())
    if above:
        raise Forbidden(f"This key can't {verb} one that may do more than itself ({', '.join(above)}).")


def _check_count(user: User, most: int) -> None:
    """Raises Forbidden. Locks the user's row: of several requests at once each counts the keys of those before."""
    User.objects.select_for_update(no_key=True).get(pk=user.pk)  # tasks go on being written
    usable = ApiKey.objects.filter(user=user, oauth_client="", revoked_at=None).exclude(expires_at__lte=timezone.now())
    if usable.count() >= most:
        raise Forbidden(f"A user has at most {MAX_KEYS} keys. Revoke one first.")


def _bonds(origin: ApiKey) -> dict[str, Any]:
    """What a key hands on to those that come from it: the OAuth grant it ends with, and the terms blocked for it."""
    bound = {origin.pk, *origin.terms_of} & rules.keys_with_terms()
    through = origin.pk if origin.oauth_client else origin.made_through_id
    return {"made_through_id": through, "oauth_grant": origin.oauth_grant, "terms_of": sorted(bound)}
