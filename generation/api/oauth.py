"""Addresses below /oauth/: where applications get and give back tokens, and users allow them. Failures are counted:
secrets of applications are hashed like passwords.
"""

import base64
from typing import Any, Final
from urllib.parse import unquote_plus

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt
from oauth2_provider import views
from oauth2_provider.models import get_application_model

from generation.admission import failures, rates
from imagegenx_site.errors import TooManyRequests

_LONGEST: Final = {"client_id": 100, "code_challenge": 128, "code_challenge_method": 10, "nonce": 255}  # their columns


@method_decorator(csrf_exempt, name="dispatch")
class CountedTokenView(views.TokenView):
    """Tokens for codes and secrets; an answer of 4xx is a failed attempt of the application."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return _counted(request, super().dispatch, *args, **kwargs)


@method_decorator(csrf_exempt, name="dispatch")
class CountedRevokeView(views.RevokeTokenView):
    """Tokens given back; the application shows its secret here too."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return _counted(request, super().dispatch, *args, **kwargs)


class CountedAuthorizationView(views.AuthorizationView):
    """A user allows an application. Requests for applications that are none count for the address."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response: HttpResponseBase = (
            super().dispatch(request, *args, **kwargs)
            if _can_be_kept(request)
            else JsonResponse({"error": "invalid_request"}, status=400)
        )
        if response.status_code < 400:
            return response
        try:
            failures.begin(failures.CLIENT, "", rates.client_address(request))
        except TooManyRequests as error:
            return _slow_down(error)
        return response


def _can_be_kept(request: HttpRequest) -> bool:
    """Whether a code can be made of what came. The toolkit writes fields of the form as they are, and looks up the
    application that the form names after it has checked the address's.
    """
    for given in (request.GET, request.POST):
        if any("\0" in value for _, values in given.lists() for value in values):
            return False
        if any(len(given.get(name, "")) > most for name, most in _LONGEST.items()):
            return False
    named = request.POST.get("client_id")
    return named is None or get_application_model().objects.filter(client_id=named).exists()


def _counted(request: HttpRequest, answer: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
    address = rates.client_address(request)
    try:
        client = _client_id(request)
        failures.begin(failures.CLIENT, client or "", address)
        if client is None:
            message = "Name one application and send its secret once: by HTTP Basic or in the body."
            return JsonResponse({"error": "invalid_request", "error_description": message}, status=400)
        with failures.hashing():
            response: HttpResponseBase = answer(request, *args, **kwargs)
    except TooManyRequests as error:
        return _slow_down(error)
    if response.status_code < 400:
        failures.succeeded(failures.CLIENT, client, address)
    elif response.status_code >= 500:
        failures.refund(failures.CLIENT, client, address)
    return response


def _client_id(request: HttpRequest) -> str | None:
    """The application's id, of the body or of HTTP Basic, read as the toolkit reads them: it tries both. Empty when
    there is none; None when they differ or bring two secrets, as one would be counted for the other.
    """
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    in_body = str(request.POST.get("client_id", ""))
    if scheme.lower() != "basic":
        return in_body
    try:
        named = unquote_plus(base64.b64decode(value).decode(request.encoding or "utf-8").partition(":")[0])
    except ValueError:
        return None
    return None if in_body not in ("", named) or "client_secret" in request.POST else named


def _slow_down(error: TooManyRequests) -> HttpResponse:
    body = {"error": "slow_down", "error_description": error.message}
    return JsonResponse(body, status=429, headers={"Retry-After": str(error.retry_after or 1)})


urlpatterns = [
    path("authorize/", CountedAuthorizationView.as_view(), name="authorize"),
    path("token/", CountedTokenView.as_view(), name="token"),
    path("revoke_token/", CountedRevokeView.as_view(), name="revoke-token"),
]
