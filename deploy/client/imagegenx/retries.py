"""When a request is sent again, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass

import httpx

from imagegenx.errors import ConnectionFailed, error_of

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_FAULTS = frozenset({408, 500, 502, 503, 504})


@dataclass(frozen=True)
class Retries:
    """At most `most` further tries. Waits double from `first_wait_s`, with chance in them; `Retry-After` is obeyed
    unless it asks for more than `longest_wait_s`: then the error is raised at once.
    """

    most: int = 5
    first_wait_s: float = 0.5
    longest_wait_s: float = 60.0


class Attempts:
    """The tries of one request: each method gives the seconds to wait before the next, or raises the error."""

    def __init__(self, retries: Retries, repeatable: bool) -> None:
        self._retries, self._repeatable, self._made = retries, repeatable, 0

    def after_break(self, error: Exception) -> float:
        """No answer came."""
        sent = not isinstance(error, _NOT_SENT)
        if (sent and not self._repeatable) or self._made >= self._retries.most:
            raise ConnectionFailed(f"No answer from the server: {error or type(error).__name__}.") from error
        return self._wait(None)

    def after_refusal(self, response: httpx.Response) -> float:
        """An answer came, and it was no success."""
        error = error_of(response)
        again = self._repeatable and (
            response.status_code in _FAULTS
            # the first request with this Idempotency-Key is still under way
            or (response.status_code == 409 and "Idempotency-Key" in response.request.headers)
        )
        too_long = (error.retry_after or 0) > self._retries.longest_wait_s
        if not (again or response.status_code == 429) or too_long or self._made >= self._retries.most:
            raise error
        return self._wait(error.retry_after)

    def reset(self) -> None:
        """What came shows that the connection works again."""
        self._made = 0

    def _wait(self, asked: float | None) -> float:
        doubled = self._retries.first_wait_s * 2**self._made
        self._made += 1
        chosen = min(doubled, self._retries.longest_wait_s) * random.uniform(0.5, 1)
        return max(asked, 0.05) * random.uniform(1, 1.1) if asked is not None else chosen
