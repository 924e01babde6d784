"""`If-None-Match` (RFC 9110, 13.1.2): a list of tags, or `*`, compared weakly."""

from django.http import HttpRequest
from django.utils.http import parse_etags


def is_known(request: HttpRequest, etag: str) -> bool:
    """Whether the client says that it has the state of this tag."""
    known = parse_etags(request.headers.get("If-None-Match", ""))
    return known == ["*"] or etag.removeprefix("W/") in (tag.removeprefix("W/") for tag in known)
