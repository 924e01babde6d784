"""OAuth 2.0 (client credentials, authorization code with PKCE): an access token acts through a key row of its own.

The row stands for one application and one user. It has no secret. Plan, limits, idempotency, policy, usage and the
admin's list apply to it as to every key. Tokens are stored as checksums only.

What comes from an application ends with it. A key that an access token makes ends with the token at the latest, and is
bound to the token's grant: `family:{uuid}` of its refresh tokens, or `token:{id}` where there are none. It is taken
only while the application's row is not revoked and the grant is alive (`is_alive`, asked at each request). Revoking
or deleting the row takes the application's tokens away as well.
"""

import hashlib
import secrets
from collections.abc import Iterable
from typing import Any

from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver
from oauth2_provider.models import get_access_token_model, get_grant_model, get_refresh_token_model

from generation.accounts.models import ApiKey, keys_updated
from imagegenx_site.errors import Unauthorised


def key_of_token(token: str) -> ApiKey:
    """The key row behind an access token, with the token's scopes, end and grant. Raises Unauthorised."""
    checksum = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
    tokens = get_access_token_model().objects.select_related("application__user", "user")
    row = tokens.filter(token_checksum=checksum).first()
    if row is None or row.application is None or not row.is_valid() or not row.scope.split():
        raise Unauthorised(
            "This is neither an API key (igx_…) nor a valid access token. Tokens expire; get one at /oauth/token/."
        )
    user = row.user or row.application.user  # client credentials act for the application's owner
    if user is None or not user.is_active:
        raise Unauthorised("The access token has no user.")
    key = _key_of(user.pk, row.application.client_id, row.application.name)
    if key.revoked_at is not None:
        raise Unauthorised("The access of this application was revoked.")
    key.scopes, key.expires_at, key.oauth_grant = row.scope.split(), row.expires, _grant_of(row)
    return key


def is_alive(key: ApiKey) -> bool:
    """Whether what a key was made through still is; true for keys that no application made."""
    if key.made_through_id is None:
        return True
    if not ApiKey.objects.filter(pk=key.made_through_id, revoked_at=None).exists():
        return False
    kind, _, name = key.oauth_grant.partition(":")
    if kind == "family":
        return bool(get_refresh_token_model().objects.filter(token_family=name, revoked=None).exists())
    return bool(get_access_token_model().objects.filter(pk=name).exists())


def _grant_of(token: Any) -> str:
    families = get_refresh_token_model().objects.filter(access_token=token).values_list("token_family", flat=True)
    family = families.first()
    return f"family:{family}" if family else f"token:{token.pk}"


@receiver(keys_updated, sender=ApiKey)
def _end_access_of_updated(prefixes: Iterable[str], **_: Any) -> None:
    revoked = ApiKey.objects.filter(prefix__in=list(prefixes)).exclude(oauth_client="").exclude(revoked_at=None)
    for key in revoked:
        _end_access(key)


@receiver(post_save, sender=ApiKey)
def _end_access(instance: ApiKey, **_: Any) -> None:
    """A revoked row of an application ends its tokens, codes and keys, so that nothing of them comes back."""
    if instance.oauth_client and instance.revoked_at is not None:
        _delete_tokens(instance)
        ApiKey.objects.filter(made_through=instance, revoked_at=None).update(revoked_at=instance.revoked_at)


@receiver(post_delete, sender=ApiKey)
def _end_access_of_deleted(instance: ApiKey, **_: Any) -> None:
    if instance.oauth_client:
        _delete_tokens(instance)


def _delete_tokens(key: ApiKey) -> None:
    """All that an application holds for the user of its row. Client credentials have no user: they are the owner's."""
    for model in (get_grant_model(), get_refresh_token_model(), get_access_token_model()):
        of_application = model.objects.filter(application__client_id=key.oauth_client)
        of_application.filter(user=key.user_id).delete()
        of_application.filter(user=None, application__user=key.user_id).delete()


def _key_of(user_id: int, client_id: str, name: str) -> ApiKey:
    rows = ApiKey.objects.select_related("user__team__plan", "plan", "profile")
    key = rows.filter(user_id=user_id, oauth_client=client_id).first()
    if key is None:
        ApiKey.objects.get_or_create(
            user_id=user_id,
            oauth_client=client_id,
            defaults={
                "name": f"OAuth: {name}"[:100],
                "prefix": f"o{secrets.token_hex(7)}",
                "digest": secrets.token_hex(32),  # the digest of no secret: nobody can authenticate with it
            },
        )
        key = rows.get(user_id=user_id, oauth_client=client_id)
    return key
