"""OAuth 2.0 (client credentials, authorization code with PKCE): an access token acts through a key row of its own.

The row stands for one application and one user. It has no secret. Plan, limits, idempotency, policy, usage and the
admin's list apply to it as to every key, and revoking it ends the application's access. Tokens are stored as checksums
only.
"""

import hashlib
import secrets

from oauth2_provider.models import get_access_token_model

from generation.accounts.models import ApiKey
from imagegenx_site.errors import Unauthorised


def key_of_token(token: str) -> ApiKey:
    """The key row behind an access token, with the token's scopes. Raises Unauthorised."""
    checksum = hashlib.sha256(token.encode()).hexdigest()
    tokens = get_access_token_model().objects.select_related("application__user", "user")
    row = tokens.filter(token_checksum=checksum).first()
    if row is None or row.application is None or not row.is_valid():
        raise Unauthorised("The access token is not valid, or has expired. Get a new one at /oauth/token/.")
    user = row.user or row.application.user  # client credentials act for the application's owner
    if user is None or not user.is_active:
        raise Unauthorised("The access token has no user.")
    key = _key_of(user.pk, row.application.client_id, row.application.name)
    if key.revoked_at is not None:
        raise Unauthorised("The access of this application was revoked.")
    key.scopes = row.scope.split()
    return key


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
