"""Sign in to the page: with an API key, with the account (password, second factor), or by an identity provider
(oidc.py); and the second factor of who is signed in with the account.

Everything here needs the page's CSRF token (Django's middleware), and every secret is counted before it is compared
(generation/admission).
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from django.contrib import auth
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_http_methods

from generation.accounts import page_session, second_factor
from generation.accounts.models import User
from generation.admission.login import code_is_right, confirmed
from generation.api.authentication import key_of_text
from generation.api.envelope import error_body, json_bytes
from imagegenx_site.errors import ApiError, Fault, Forbidden, InvalidRequest, Unauthorised

BACKEND: Final = "generation.admission.login.CountedBackend"
_MAX_BODY: Final = 4096  # bytes
_PENDING: Final = "page_pending"  # in the session: who has come from the identity provider and owes a code
_PENDING_S: Final = 300
_HOW: Final = 'Send {"key": "igx_…"} or {"username": "…", "password": "…"} as JSON.'


class CodeNeeded(Unauthorised):
    """The password was right; the code of the second factor is missing."""

    code = "code_needed"


class _WrongCode(Unauthorised):
    code = "wrong_code"


Answer = Callable[[HttpRequest], dict[str, Any] | None]


def _answered(request: HttpRequest, work: Answer) -> HttpResponse:
    """The answer in the envelope of the API; 204 for None."""
    try:
        data = work(request)
    except ApiError as error:
        body = json_bytes(error_body(error, request.headers.get("X-Request-Id")))
        answer = HttpResponse(body, status=error.http_status, content_type="application/json")
        if error.retry_after is not None:
            answer["Retry-After"] = str(error.retry_after)
        return answer
    if data is None:
        return HttpResponse(status=204)
    return JsonResponse({"code": 200, "message": "success", "data": data})


@require_http_methods(["POST", "DELETE"])
def session(request: HttpRequest) -> HttpResponse:
    """POST {"key"}, {"username", "password"} with "code" where the account has a second factor, or {"code"} of who
    came from the identity provider: a session. DELETE: end it.
    """
    if request.method == "DELETE":
        page_session.end(request)
        return HttpResponse(status=204)
    return _answered(request, _begin)


def _begin(request: HttpRequest) -> dict[str, Any]:
    asked = _body(request)
    if "key" in asked:
        page_session.begin(request, key_of_text(request, _text(asked, "key").strip()))
        return {"account": False}
    user = _by_password(request, asked) if "username" in asked else pending_user(request)
    if user is None:
        raise Unauthorised(_HOW)
    if second_factor.is_on(user):
        code = _text(asked, "code").strip() if "code" in asked else ""
        if not code:
            raise CodeNeeded("Enter the code of your authenticator app.")
        if not code_is_right(request, user, code):
            raise _WrongCode("This code is wrong or was used before.")
    sign_in(request, user)
    return {"account": True}


def sign_in(request: HttpRequest, user: User) -> None:
    """The browser acts for the user. Raises Forbidden for one without a plan."""
    if user.team is None:
        raise Forbidden("Your account belongs to no team yet. Ask the operator to put it into one.")
    auth.login(request, user, backend=BACKEND)
    request.session.pop(_PENDING, None)
    page_session.begin_for_account(request)


def await_code(request: HttpRequest, user: User) -> None:
    """The user is who the identity provider says; the code is still to come. Nobody is logged in meanwhile."""
    auth.logout(request)
    request.session[_PENDING] = {"user": user.pk, "until": time.time() + _PENDING_S}


def pending_user(request: HttpRequest) -> User | None:
    """Who owes a code in this browser."""
    kept = request.session.get(_PENDING) if request.session.session_key else None
    if kept is None or kept["until"] < time.time():
        return None
    return User.objects.filter(pk=kept["user"], is_active=True).first()


@require_http_methods(["GET", "POST", "PUT", "DELETE"])
def factor(request: HttpRequest) -> HttpResponse:
    """The second factor of who is signed in with the account; a key is not enough. GET: whether it is on. POST
    {"password"}: a secret and its QR code. PUT {"code"}: on, and the recovery codes. DELETE {"code"}: off.
    """
    return _answered(request, _FACTOR[request.method or ""])


def _account(request: HttpRequest) -> User:
    user = request.user
    if not isinstance(user, User) or not page_session.is_of_account(request):
        raise Forbidden("Sign in with your user name and password for that; a key is not enough.")
    return user


def _factor_state(request: HttpRequest) -> dict[str, Any]:
    user = _account(request)
    return {"on": second_factor.is_on(user), "codes_left": second_factor.codes_left(user)}


def _begin_factor(request: HttpRequest) -> dict[str, Any]:
    user = _account(request)
    if auth.authenticate(request, username=user.get_username(), password=_text(_body(request), "password")) != user:
        raise InvalidRequest([Fault("password", "wrong_password", "This is not your password.")])
    secret, picture = second_factor.begin(user)
    return {"secret": secret, "qr": picture}


def _confirm_factor(request: HttpRequest) -> dict[str, Any]:
    codes = confirmed(request, _account(request), _text(_body(request), "code").strip())
    if not codes:
        raise InvalidRequest([Fault("code", "wrong_code", "This code is wrong. Is the clock of your device right?")])
    return {"recovery_codes": codes}


def _end_factor(request: HttpRequest) -> None:
    user = _account(request)
    if not code_is_right(request, user, _text(_body(request), "code").strip()):
        raise InvalidRequest([Fault("code", "wrong_code", "This code is wrong or was used before.")])
    second_factor.switch_off(user)


_FACTOR: Final[dict[str, Answer]] = {
    "GET": _factor_state,
    "POST": _begin_factor,
    "PUT": _confirm_factor,
    "DELETE": _end_factor,
}


def _by_password(request: HttpRequest, asked: Mapping[str, Any]) -> User:
    name, password = _text(asked, "username").strip(), _text(asked, "password")
    user = auth.authenticate(request, username=name, password=password)
    if not isinstance(user, User):
        raise Unauthorised("Wrong user name or password.")
    return user


def _body(request: HttpRequest) -> Mapping[str, Any]:
    try:
        asked = json.loads(request.body if len(request.body) <= _MAX_BODY else b"")
    except (ValueError, RecursionError):
        asked = None
    return asked if isinstance(asked, dict) else {}


def _text(asked: Mapping[str, Any], name: str) -> str:
    """A text of the body. Raises Unauthorised for another value, and for what Postgres does not take: NUL, and lone
    surrogates.
    """
    value = asked.get(name)
    if not isinstance(value, str) or "\0" in value or any("\ud800" <= sign <= "\udfff" for sign in value):
        raise Unauthorised(_HOW)
    return value
