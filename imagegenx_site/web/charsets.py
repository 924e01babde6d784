"""Which character sets a body may name. Django decodes a form with any codec of Python, some of which (idna, punycode,
rot13) raise what nobody expects; the API's programs send UTF-8.
"""

import codecs
from typing import Final

from django.core.exceptions import BadRequest
from django.http import HttpRequest

from imagegenx_site.web.middleware import Steps, middleware

_READ: Final = frozenset(("utf-8", "ascii", "iso8859-1"))


@middleware
def known_charsets(request: HttpRequest) -> Steps:
    """400 for a body in another character set, before anything reads it."""
    _check(request)
    yield


def _check(request: HttpRequest) -> None:
    """Raises BadRequest. A name that Python does not know is left out by Django, which reads UTF-8 then."""
    name = (request.content_params or {}).get("charset")
    try:
        known = name is None or codecs.lookup(name).name in _READ
    except (LookupError, ValueError):
        return
    if not known:
        raise BadRequest("The body's charset must be UTF-8.")
