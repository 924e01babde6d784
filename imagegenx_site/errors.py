"""Every error that a client can meet, one tree, sorted by who is at fault.

ApiError                      code, HTTP status, message that says what to do
+-- InvalidRequest      400   the caller's: every fault of the request at once
+-- Unauthorised        401   no key, or one that is not valid
+-- Forbidden           403   the plan or the key's scopes do not allow it
+-- NotFound            404   no such thing, or another user's
+-- WrongMethod         405   the address takes other methods
+-- TooSlow             408   the body did not come at a useful rate
+-- Conflict            409   an idempotent request is still under way, or the state does not allow it
+-- TooLarge            413   the body is larger than its address takes
+-- Unprocessable       422   an idempotency key was used for another request
+-- TooManyRequests     429   a limit of the plan; `retry_after` s
+-- Busy                503   ours: no room now; `retry_after` s
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

MAX_FAULTS: Final = 50  # of one answer


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a request: where, a machine's word for it, and what would be right."""

    field: str
    code: str
    message: str

    def sentence(self, names: Mapping[str, str]) -> str:
        """Where and what in one; `names`: what a door calls our fields. Of the whole body there is no where."""
        return f"{names.get(self.field, self.field)}: {self.message}" if self.field else self.message


@dataclass(frozen=True)
class Allowance:
    """One limit as clients see it: at most `quota` in `window` s (0: at any time), `left` until `reset` s
    from now.
    """

    name: str
    quota: int
    window: int
    left: int
    reset: int


class ApiError(Exception):
    """What the API answers instead of data."""

    http_status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after

    def details(self) -> dict[str, Any]:
        """More about it, for `data.errors` of the answer."""
        return {"errors": [{"field": None, "code": self.code, "message": self.message}]}


class InvalidRequest(ApiError):
    """The request can't be carried out as it is written. Of many faults the first MAX_FAULTS are kept."""

    http_status = 400
    code = "invalid_request"

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = list(faults[:MAX_FAULTS])
        names = ", ".join(dict.fromkeys(fault.field or "the body" for fault in self.faults))
        which = "data.errors" if len(faults) <= MAX_FAULTS else f"the first {MAX_FAULTS} in data.errors"
        super().__init__(f"{len(faults)} fault(s) in the request: {names}. See {which}.")

    def details(self) -> dict[str, Any]:
        return {"errors": [asdict(fault) for fault in self.faults]}


class Unauthorised(ApiError):
    """Who is asking is not known."""

    http_status = 401
    code = "unauthorised"


class Forbidden(ApiError):
    """Known, and not allowed."""

    http_status = 403
    code = "forbidden"


class NotFound(ApiError):
    """Not there, or not the caller's: the answer does not say which."""

    http_status = 404
    code = "not_found"


class WrongMethod(ApiError):
    """There is something at the address, for other methods."""

    http_status = 405
    code = "method_not_allowed"


class Conflict(ApiError):
    """Not now: the state of things does not allow it."""

    http_status = 409
    code = "conflict"


class TooSlow(ApiError):
    """The body did not come in time."""

    http_status = 408
    code = "too_slow"


class TooLarge(ApiError):
    """The body is larger than its address takes."""

    http_status = 413
    code = "too_large"


class Unprocessable(ApiError):
    """The idempotency key belongs to another request."""

    http_status = 422
    code = "idempotency_mismatch"


class TooManyRequests(ApiError):
    """A limit of the caller's plan. `allowances` says what is left of it and of its neighbours."""

    http_status = 429
    code = "rate_limited"

    def __init__(self, message: str, *, retry_after: int | None = None, allowances: Sequence[Allowance] = ()) -> None:
        super().__init__(message, retry_after=retry_after)
        self.allowances = list(allowances)


class Busy(ApiError):
    """Not enough workers for the work that waits."""

    http_status = 503
    code = "busy"
