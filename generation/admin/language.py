"""The admin in the language of the browser, of those in LANGUAGES. The API speaks English whatever a client's header
says, and no cache has to keep its answers apart by language.
"""

from typing import Final

from django.http import HttpRequest
from django.utils import translation
from django.utils.cache import patch_vary_headers

from imagegenx_site.web.middleware import Steps, middleware

_PAGES: Final = ("/admin/", "/accounts/login/")


@middleware
def admin_language(request: HttpRequest) -> Steps:
    """Around the pages of operators. One function instead of Django's class, which costs every request a thread."""
    if not request.path_info.startswith(_PAGES):
        yield
        return
    with translation.override(translation.get_language_from_request(request)):
        response = yield
        patch_vary_headers(response, ("Accept-Language",))
        response.headers["Content-Language"] = translation.get_language()
