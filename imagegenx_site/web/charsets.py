"""Which character sets a body may name. Django decodes a form with any codec of Python, some of which (idna, punycode,
rot13) raise what nobody expects; the API's programs send UTF-8.
"""

import codecs
from collections.abc import Callable
from typing import Any, Final

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import BadRequest
from django.http import HttpRequest
from django.utils.decorators import sync_and_async_middleware

_READ: Final = frozenset(("utf-8", "ascii", "iso8859-1"))


@sync_and_async_middleware
def known_charsets(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware: 400 for a body in another character set, before anything reads it."""
    if iscoroutinefunction(get_response):

        async def asynchronous(request: HttpRequest) -> Any:
            _check(request)
            return await get_response(request)

        return asynchronous

    def synchronous(request: HttpRequest) -> Any:
        _check(request)
        return get_response(request)

    return synchronous


def _check(request: HttpRequest) -> None:
    """Raises BadRequest. A name that Python does not know is left out by Django, which reads UTF-8 then."""
    name = (request.content_params or {}).get("charset")
    try:
        known = name is None or codecs.lookup(name).name in _READ
    except (LookupError, ValueError):
        return
    if not known:
        raise BadRequest("The body's charset must be UTF-8.")
