"""What somebody who wrote an address wrong may have meant."""

import difflib
import functools
import re
from typing import Final

from django.urls import Resolver404, get_resolver, resolve

_SEE: Final = "See /api/docs."
_LONGEST: Final = 200  # characters of an address for which a near one is looked for
_VARIABLE: Final = re.compile(r"<(?:\w+:)?(\w+)>")


def hint(path: str) -> str:
    """A sentence: without its last slash there is something, or there is a similar address, or where to look."""
    bare = path.rstrip("/")
    if bare != path and _is_there(bare):
        return f"Leave out the slash at its end: {bare}."
    near = difflib.get_close_matches(bare, _addresses(), n=1, cutoff=0.8) if len(path) <= _LONGEST else []
    return f"Did you mean {near[0]}? {_SEE}" if near else _SEE


def _is_there(path: str) -> bool:
    try:
        resolve(path)
    except Resolver404:
        return False
    return True


@functools.cache
def _addresses() -> tuple[str, ...]:
    """Every address that programs call, its variable parts as `{name}`."""
    written = {"/" + _VARIABLE.sub(r"{\1}", route) for route in _routes(get_resolver())}
    return tuple(sorted(one for one in written if one.startswith(("/api/", "/v1/", "/sdapi/"))))


def _routes(resolver: object, start: str = "") -> list[str]:
    found = []
    for one in getattr(resolver, "url_patterns", ()):
        route = f"{start}{one.pattern}"
        found += _routes(one, route) if hasattr(one, "url_patterns") else [route]
    return found
