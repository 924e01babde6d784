"""Addresses below /oauth/: where applications get and give back tokens, and users allow them. Failures are counted:
secrets of applications are hashed like passwords.
"""

import base64
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt
from oauth2_provider import views

from generation.admission import failures, rates
from imagegenx_site.errors import TooManyRequests


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
        response: HttpResponseBase = super().dispatch(request, *args, **kwargs)
        if response.status_code < 400:
            return response
        try:
            failures.begin(failures.CLIENT, "", rates.client_address(request))
        except TooManyRequests as error:
            return _slow_down(error)
        return response


def _counted(request: HttpRequest, answer: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
    client, address = _client_id(request), rates.client_address(request)
    try:
        failures.begin(failures.CLIENT, client, address)
        with failures.hashing():
            response: HttpResponseBase = answer(request, *args, **kwargs)
    except TooManyRequests as error:
        return _slow_down(error)
    if response.status_code < 400:
        failures.succeeded(failures.CLIENT, client, address)
    elif response.status_code >= 500:
        failures.refund(failures.CLIENT, client, address)
    return response


def _client_id(request: HttpRequest) -> str:
    """The application's id, of the body or of HTTP Basic; empty when there is none."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value).decode().partition(":")[0]
        except ValueError:
            return ""
    return str(request.POST.get("client_id", ""))


def _slow_down(error: TooManyRequests) -> HttpResponse:
    body = {"error": "slow_down", "error_description": error.message}
    return JsonResponse(body, status=429, headers={"Retry-After": str(error.retry_after or 1)})


urlpatterns = [
    path("authorize/", CountedAuthorizationView.as_view(), name="authorize"),
    path("token/", CountedTokenView.as_view(), name="token"),
    path("revoke_token/", CountedRevokeView.as_view(), name="revoke-token"),
]
