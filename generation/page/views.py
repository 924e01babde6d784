"""The page for people: write a prompt, watch it become a picture, look at earlier ones. It is a client of the API like
any other: everything it shows comes from there, with the key that the person types in.
"""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

# Nothing of others runs here; pictures may come from an object store.
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob: http: https:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


def create(request: HttpRequest) -> HttpResponse:
    """The page; the same for everybody."""
    response = render(request, "generation/create.html")
    response["Content-Security-Policy"] = _POLICY
    return response
