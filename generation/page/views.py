"""The web page: enter a prompt, watch the picture being generated, see earlier ones. It is a client of the API like any
other, with the key that the user enters.
"""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

# Only our own scripts run; pictures may come from an object store.
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob: http: https:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


def create(request: HttpRequest) -> HttpResponse:
    """The page; the same for everybody."""
    response = render(request, "generation/create.html")
    response["Content-Security-Policy"] = _POLICY
    return response
