"""Login by the identity provider that OIDC_ISSUER names: OpenID Connect's authorization code flow with PKCE, state and
nonce, by Authlib. Its discovery document says where everything is; the ID token is checked against its keys.

Who somebody is here: generation/accounts/external_logins.py. Who has switched on the second factor owes its code.
"""

import functools
import logging
from typing import Any

from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.django_client import OAuth
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe
from joserfc.errors import JoseError
from requests import RequestException

from generation.accounts import second_factor
from generation.accounts.external_logins import user_of
from generation.api.wait import base_url
from generation.page.sign_in import await_code, sign_in
from imagegenx_site.errors import ApiError, Busy, Forbidden, NotFound
from imagegenx_site.slots import Slots, SlotsFull

_TIMEOUT_S = 10
_AT_ONCE = 2  # requests of this process that wait for the provider: each holds a thread
_waiting = Slots()
_log = logging.getLogger(__name__)


@require_safe
def start(request: HttpRequest) -> HttpResponse:
    """To the provider's login."""
    return _or_refused(request, _start)


@require_safe
def callback(request: HttpRequest) -> HttpResponse:
    """Back from there, with a code for the tokens."""
    return _or_refused(request, _callback)


def _or_refused(request: HttpRequest, work: Any) -> HttpResponse:
    """The work's answer, or a page that says why not."""
    try:
        with _waiting.hold(("provider", _AT_ONCE)):
            answer: HttpResponse = work(request)
    except SlotsFull:
        return _refusal(request, Busy("The identity provider is slow. Try again in a moment.", retry_after=3))
    except (OAuthError, JoseError, RequestException, ValueError, KeyError) as error:
        _log.warning("login by the identity provider failed: %s: %s", type(error).__name__, error)
        return _refusal(request, Forbidden("The login did not succeed. Try again."))
    except ApiError as error:
        return _refusal(request, error)
    return answer


def _refusal(request: HttpRequest, error: ApiError) -> HttpResponse:
    answer = render(request, "registration/refused.html", {"message": error.message}, status=error.http_status)
    if error.retry_after is not None:
        answer["Retry-After"] = str(error.retry_after)
    return answer


def _start(request: HttpRequest) -> HttpResponse:
    answer: HttpResponse = _client().authorize_redirect(request, base_url(request) + reverse("oidc-callback"))
    return answer


def _callback(request: HttpRequest) -> HttpResponse:
    # Authlib compares `iss` with the discovery document and takes any `aud` beside a right `azp`: both must be ours.
    expected = {"iss": settings.OIDC_ISSUER, "aud": settings.OIDC_CLIENT_ID}
    options = {name: {"essential": True, "values": [value]} for name, value in expected.items()}
    token = _client().authorize_access_token(request, claims_options=options)
    claims = token.get("userinfo")
    if not claims:
        raise Forbidden("The identity provider did not say who you are.")
    user = user_of(settings.OIDC_ISSUER, claims)
    if second_factor.is_on(user):
        await_code(request, user)
    else:
        sign_in(request, user)
    return HttpResponseRedirect("/")


def _client() -> Any:
    """Raises NotFound where no provider is configured."""
    if not settings.OIDC_ISSUER:
        raise NotFound("This server has no identity provider.")
    return _registered(settings.OIDC_ISSUER, settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET)


@functools.lru_cache(4)
def _registered(issuer: str, client_id: str, secret: str) -> Any:
    asked = {"scope": "openid email profile", "code_challenge_method": "S256", "default_timeout": _TIMEOUT_S}
    return OAuth().register(
        "oidc",
        client_id=client_id,
        client_secret=secret,
        server_metadata_url=f"{issuer.rstrip('/')}/.well-known/openid-configuration",
        client_kwargs=asked,
    )
