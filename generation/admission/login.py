"""Logins with a password, wherever one is asked for: counted before the password is hashed (failures.py). Then the
code of the second factor, where the user has one.
"""

from collections.abc import Callable
from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from generation.accounts import second_factor
from generation.accounts.models import User
from generation.admission import failures, rates
from imagegenx_site.errors import TooManyRequests


class CountedBackend(ModelBackend):
    """Django's own check of a password, which takes a core for a second, behind the count of failures.

    Raises TooManyRequests; the middleware below answers it. Commands, which have no request, are not counted.
    """

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> Any:
        if request is None or username is None or password is None:
            return super().authenticate(request, username, password, **kwargs)
        address = rates.client_address(request)
        failures.begin(failures.PASSWORD, username, address)
        with failures.hashing():
            user = super().authenticate(request, username, password, **kwargs)
        if user is not None:
            failures.succeeded(failures.PASSWORD, username, address)
        return user


def code_is_right(request: HttpRequest, user: User, code: str) -> bool:
    """Whether it is a code of the user's second factor, which is used up then. Raises TooManyRequests."""
    name, address = user.get_username(), rates.client_address(request)
    failures.begin(failures.CODE, name, address)
    right = second_factor.verify(user, code)
    if right:
        failures.succeeded(failures.CODE, name, address)
    return right


def confirmed(request: HttpRequest, user: User, code: str) -> list[str]:
    """The recovery codes of a factor that counts from now on; empty for a wrong code. Raises TooManyRequests."""
    name, address = user.get_username(), rates.client_address(request)
    failures.begin(failures.CODE, name, address)
    codes = second_factor.confirm(user, code)
    if codes:
        failures.succeeded(failures.CODE, name, address)
    return codes


def refused_logins(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware: a page with 429 and `Retry-After` for an attempt that may not be made now."""

    def middleware(request: HttpRequest) -> Any:
        return get_response(request)

    def process_exception(request: HttpRequest, raised: Exception) -> HttpResponse | None:
        if not isinstance(raised, TooManyRequests):
            return None
        answer = render(request, "registration/too_many.html", {"message": raised.message}, status=429)
        answer["Retry-After"] = str(raised.retry_after or 1)
        return answer

    middleware.process_exception = process_exception  # type: ignore[attr-defined]  # Django looks for it there
    return middleware
