"""Who a person of an identity provider (OpenID Connect) is here.

Somebody who came before is known by issuer and subject. The first time an account is found by its e-mail address: only
by one that the provider has verified, and only if exactly one active user has it. Accounts are never made here: the
operator makes them, and writes their addresses.
"""

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction

from generation.accounts.models import ExternalLogin, User
from imagegenx_site.errors import Forbidden

_NOBODY = (
    "No account here belongs to this login. The operator must give one user the e-mail address that your identity "
    "provider has verified."
)


def user_of(issuer: str, claims: Mapping[str, Any]) -> User:
    """The user behind the claims of a checked ID token. Raises Forbidden for a stranger."""
    subject = str(claims.get("sub") or "")
    if not 0 < len(subject) <= 255 or "\0" in subject:
        raise Forbidden("The identity provider did not say who you are.")
    known = ExternalLogin.objects.select_related("user").filter(issuer=issuer, subject=subject).first()
    user = known.user if known else _linked(issuer, subject, claims)
    if not user.is_active:
        raise Forbidden("This account is switched off.")
    return user


def _linked(issuer: str, subject: str, claims: Mapping[str, Any]) -> User:
    email = str(claims.get("email") or "").strip()
    if not email or "\0" in email or claims.get("email_verified") is not True:
        raise Forbidden(_NOBODY)
    found = list(User.objects.filter(email__iexact=email, is_active=True)[:2])
    if len(found) != 1 or ExternalLogin.objects.filter(user=found[0], issuer=issuer).exists():
        raise Forbidden(_NOBODY)  # two users share the address, or it passed to another person there
    try:
        with transaction.atomic():
            ExternalLogin.objects.create(user=found[0], issuer=issuer, subject=subject)
    except IntegrityError:  # the same person, twice at the same moment
        return ExternalLogin.objects.select_related("user").get(issuer=issuer, subject=subject).user
    return found[0]
