"""What every endpoint of /api/v1 has in common: scopes of keys, limits, and the headers that report them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from django.conf import settings
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from generation.accounts import actor
from generation.accounts.models import ApiKey
from generation.accounts.plans import plan_of
from generation.accounts.rights import scopes_of
from generation.admission import rates
from generation.api.wait import base_url
from imagegenx_site.errors import Allowance, Forbidden, WrongMethod


@dataclass(frozen=True)
class Upload:
    """Large bodies of an endpoint: bytes of one, what such uploads are called, and how many a user may send at once."""

    most: int
    name: str
    at_once: int

    @classmethod
    def of_pictures(cls) -> Upload:
        """Requests that bring pictures."""
        return cls(settings.MAX_BODY_BYTES, "uploads", settings.UPLOADS_PER_USER)


class ApiView(APIView):
    """An endpoint. `scopes` names, by method, what a key that is bound to scopes must have."""

    scopes: ClassVar[dict[str, str]] = {"GET": "read"}

    @classmethod
    def upload(cls) -> Upload | None:
        """What a caller with a key may send beyond FREE_BODY_BYTES."""
        return None

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Clear the audit actor, so that the next request on this thread does not inherit it."""
        try:
            return super().dispatch(request, *args, **kwargs)
        finally:
            actor.set_actor(None)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse a Host header that links can't begin with before anything is done."""
        super().initial(request, *args, **kwargs)
        base_url(request._request)

    def perform_authentication(self, request: Request) -> None:
        """Who asks; wrong keys are counted there (authentication.py)."""
        super().perform_authentication(request)
        if isinstance(request.auth, ApiKey):
            actor.set_actor(request.auth.user, rates.client_address(request._request))

    def check_throttles(self, request: Request) -> None:
        """Count the request for its address and its key. Raises TooManyRequests."""
        if not isinstance(request.auth, ApiKey):
            return
        address = f"{request.auth.user_id}:{rates.client_address(request._request)}"
        counters = [("ip", address), ("key", str(request.auth.pk))]
        allowances_of(request).extend(rates.hit(counters, plan_of(request.auth).requests_per_second))
        method = "GET" if request.method == "HEAD" else request.method or ""
        require_scope(request.auth, self.scopes.get(method, "generate"))

    def resume(self, accepted: HttpResponseBase, work: Callable[[], Response]) -> Response:
        """The second half of a deferred request, in the form of the first: errors, limits, the headers of `accepted`,
        which went through the middleware.
        """
        request = self.request
        if isinstance(request.auth, ApiKey):
            actor.set_actor(request.auth.user, rates.client_address(request._request))
        try:
            try:
                response = work()
            except Exception as raised:
                response = self.handle_exception(raised)
            response = self.finalize_response(request, response, *self.args, **self.kwargs)
        finally:
            actor.set_actor(None)
        for name in set(accepted.headers) - set(response.headers) - {"Content-Length", "Content-Type"}:
            response[name] = accepted[name]
        return response.render()

    def http_method_not_allowed(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """Raises WrongMethod, which names what the address takes."""
        known = [method for method in self.allowed_methods if method not in ("HEAD", "OPTIONS")]
        raise WrongMethod(f"{request.method} is not for this address. It takes {' and '.join(known)}.")

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        """The answer, with what is left of the limits."""
        response = super().finalize_response(request, response, *args, **kwargs)
        for name, value in rates.headers(allowances_of(request)).items():
            response[name] = value
        return response


def allowances_of(request: Any) -> list[Allowance]:
    """The limits that this request was counted for: a list to add to."""
    inner = getattr(request, "_request", request)
    if not hasattr(inner, "allowances"):
        inner.allowances = []
    found: list[Allowance] = inner.allowances
    return found


def require_scope(key: ApiKey, scope: str) -> None:
    """Raises Forbidden when the key's scopes, or the role of its user, do not include this one."""
    allowed = scopes_of(key)
    if scope in allowed:
        return
    if key.scopes and scope not in key.scopes:
        raise Forbidden(f"This key may not do that: it lacks the scope `{scope}`. It has {', '.join(key.scopes)}.")
    raise Forbidden(f"As {key.user.role} of the team you may not do that: it needs the scope `{scope}`.")
