"""The header `Idempotency-Key`: what it promises (generation/tasks/idempotency.py) for the requests of the API."""

from collections.abc import Callable
from typing import Any, Final

from drf_spectacular.utils import OpenApiParameter
from rest_framework.response import Response

from generation.api.authentication import KeyRequest
from generation.tasks.idempotency import Idempotency
from imagegenx_site.errors import Fault, InvalidRequest

LONGEST_KEY: Final = 255  # characters
PARAMETER: Final = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="The same key and body again within a day answer what the first request did.",
)


def idempotency_of(request: KeyRequest, route: str, body: Any) -> Idempotency | None:
    """What the header says of this request; None without one. Raises InvalidRequest."""
    key = request.headers.get("Idempotency-Key", "").strip().strip('"')
    if not key:
        return None
    if len(key) > LONGEST_KEY or not key.isprintable():
        message = f"At most {LONGEST_KEY} printable characters."
        raise InvalidRequest([Fault("Idempotency-Key", "out_of_range", message)])
    return Idempotency.of(request.auth, key, route, body)


def once(request: KeyRequest, route: str, body: Any, make: Callable[[], Response]) -> Response:
    """`make`'s answer; under an Idempotency-Key that was sent before, the first request's.

    Access tokens of an application share a row of keys, and what one token made may be above another: a kept answer is
    of the scopes and the grant that asked first.
    """
    key = request.auth
    rights = [sorted(key.scopes), key.oauth_grant] if key.oauth_client else []
    idempotency = idempotency_of(request, route, {"rights": rights, "body": body} if rights else body)
    if idempotency is None:
        return make()

    def answer() -> tuple[int, Any]:
        made = make()
        return made.status_code, made.data

    status, data, new = idempotency.answer(answer)
    return Response(data, status=status, headers={} if new else {"Idempotency-Replayed": "true"})
