"""Headers of every answer of Django's: what a page may load (Content-Security-Policy), and who may keep an answer.

A view that sets one of them itself is left alone: signed pictures may be kept by the browser, event streams never.
What is the same for everybody (the schema) may be kept by anybody. Static files do not pass here.
"""

from typing import Final

from django.http import HttpRequest

from imagegenx_site.web.middleware import Steps, middleware

_ALL: Final = "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
# Only our own scripts and styles. Pictures may come from an object store.
_PAGE: Final = f"default-src 'self'; img-src 'self' data: blob: http: https:; {_ALL}"
# Unfold writes attributes of style; its Alpine compiles expressions of the templates. No script within a page runs.
_ADMIN: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    f"img-src 'self' data: blob: http: https:; {_ALL}"
)
_DOCUMENTS: Final = f"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; {_ALL}"
# An application's address takes the form that allows it (OAuth): Chrome applies form-action to the redirect too.
_CONSENT: Final = _PAGE.replace("form-action 'self'", "form-action *")
_NO_PAGE: Final = "default-src 'none'; frame-ancestors 'none'"

_PUBLIC: Final = "/api/schema"
_PUBLIC_KEPT: Final = "public, max-age=300"


@middleware
def answer_headers(request: HttpRequest) -> Steps:
    """See the module."""
    response = yield
    public = request.path == _PUBLIC and response.status_code == 200 and not response.cookies
    response.headers.setdefault("Cache-Control", _PUBLIC_KEPT if public else "private, no-store")
    if not response.headers.get("Content-Security-Policy"):
        response.headers["Content-Security-Policy"] = _policy(request.path, response.get("Content-Type", ""))


def _policy(path: str, content_type: str) -> str:
    if not content_type.startswith(("text/html", "application/xhtml")):
        return _NO_PAGE
    if path.startswith("/admin/"):
        return _ADMIN
    if path.startswith("/api/docs"):
        return _DOCUMENTS
    return _CONSENT if path.startswith("/oauth/") else _PAGE
