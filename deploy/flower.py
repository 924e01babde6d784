"""Flower behind a counted login: `python -m deploy.flower -A imagegenx_site flower ...`.

Flower compares HTTP Basic credentials without a limit, and shows /metrics to everybody. Here a wrong login is counted
like a wrong password at the admin (generation/admission/failures.py), and only /healthcheck and its static files are
open. Browsers keep the login: a page of another site could have them stop workers, so it is refused.
"""

from __future__ import annotations

import sys
from base64 import b64decode
from typing import Any

import django
import tornado.web
from celery.__main__ import main as celery
from flower.views import BaseHandler
from flower.views.monitor import Metrics

from generation.admission import failures, rates
from imagegenx_site.errors import TooManyRequests
from imagegenx_site.http.origins import of_another_site

_SAFE = ("GET", "HEAD", "OPTIONS")
_compare = BaseHandler.get_current_user


def counted_user(handler: Any) -> Any:
    """Flower's `get_current_user`: the user, or an answer of 401; 429 during a pause, 403 for a change that another
    site's page made a browser ask for.
    """
    if handler.request.method not in _SAFE and of_another_site(handler.request.headers):
        raise tornado.web.HTTPError(403, "a page of another site")
    account = _account(handler.request.headers.get("Authorization", ""))
    if account is None or not handler.application.options.basic_auth:
        return _compare(handler)
    address = rates.counted_address(handler.request.remote_ip)
    try:
        failures.begin(failures.PASSWORD, account, address)
    except TooManyRequests as error:
        handler.set_status(429)
        handler.set_header("Retry-After", str(error.retry_after or 1))
        handler.finish(error.message)
        raise tornado.web.Finish from error
    user = _compare(handler)  # raises for a wrong password, and leaves it counted
    failures.succeeded(failures.PASSWORD, account, address)
    return user


def _account(header: str) -> str | None:
    """The user name of HTTP Basic; None when no password is given."""
    scheme, _, value = header.partition(" ")
    try:
        return b64decode(value).decode().partition(":")[0] if scheme.lower() == "basic" else None
    except ValueError:
        return ""


def guard() -> None:
    """Put the login before Flower's handlers."""
    BaseHandler.get_current_user = counted_user
    Metrics.get = tornado.web.authenticated(Metrics.get)


if __name__ == "__main__":
    django.setup()
    guard()
    sys.argv[0] = "celery"
    celery()
