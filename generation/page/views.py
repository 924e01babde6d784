"""The web page: make pictures, watch them being generated, sort them, batches, keys and usage; and one for children. It
is a client of the API like any other, except that it gives its key away once, for a session (sign_in.py). Its
modules: generation/static/generation/studio.
"""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.utils.translation import get_language_from_request
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_safe

from generation.accounts import page_session
from generation.page.sign_in import pending_user


@require_safe
@ensure_csrf_cookie
def create(request: HttpRequest) -> HttpResponse:
    """The page; it differs only by whether this browser has a session, and by its language."""
    return _page(request, "generation/studio.html")


@require_safe
@ensure_csrf_cookie
def kids(request: HttpRequest) -> HttpResponse:
    """The page for children: a session whose key is bound to a child-safe profile, or the children's service."""
    return _page(request, "generation/kids.html")


def _page(request: HttpRequest, template: str) -> HttpResponse:
    state = "yes" if page_session.is_open(request) else "code" if pending_user(request) else "no"
    shown = {
        "session": state,
        "account": page_session.is_of_account(request),
        "provider": settings.OIDC_NAME if settings.OIDC_ISSUER else "",
        "language": _language(request),
    }
    answer = render(request, template, shown)
    patch_vary_headers(answer, ("Accept-Language", "Cookie"))
    return answer


def _language(request: HttpRequest) -> str:
    """That of the cookie which the page and the admin share, else the browser's."""
    return "zh-Hans" if get_language_from_request(request).startswith("zh") else "en"
