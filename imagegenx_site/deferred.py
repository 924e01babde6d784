"""Answers that are not ready when their view returns, and must not hold a thread until they are.

A view answers 202 with a `Deferred` on a response of a `Deferrable` class. The web process (imagegenx_site/asgi.py)
waits on the event loop, then lets a thread make the real answer, which may be deferred once more. Other servers send
the 202; a view that can't do without its second half asks `may_defer` first.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase

_MARK: Final = "_may_defer"


def _nothing() -> None:
    """Nobody minds that the client has gone."""


@dataclass(frozen=True)
class Deferred:
    """`wait` runs on the event loop and says whether its event came in time; then `answer(in_time, the 202)` is what
    the client gets. `abandon` is called when the client does not wait so long. Both run in a thread.
    """

    wait: Callable[[], Awaitable[bool]]
    answer: Callable[[bool, HttpResponseBase], HttpResponseBase]
    abandon: Callable[[], None] = _nothing


class Deferrable:
    """Beside a class of responses: one that may be replaced by a later answer."""

    deferred: Deferred | None = None


def mark_deferrable(request: HttpRequest) -> None:
    """The server of this request waits for deferred answers."""
    setattr(request, _MARK, True)


def may_defer(request: HttpRequest) -> bool:
    """Whether a `Deferred` of this request will be waited for."""
    return getattr(request, _MARK, False)
