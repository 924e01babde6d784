"""The admin in the language of the browser, of those in LANGUAGES. The API speaks English whatever a client's header
says, and no cache has to keep its answers apart by language.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import translation
from django.utils.cache import patch_vary_headers
from django.utils.decorators import sync_and_async_middleware

_PAGES: Final = ("/admin/", "/accounts/login/")


@sync_and_async_middleware
def admin_language(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Around the pages of operators. One function instead of Django's class, which costs every request a thread."""
    if iscoroutinefunction(get_response):

        async def answer_later(request: HttpRequest) -> HttpResponseBase:
            with _spoken(request):
                waiting: Awaitable[HttpResponseBase] = get_response(request)
                return _varied(request, await waiting)

        return answer_later

    def answer(request: HttpRequest) -> HttpResponseBase:
        with _spoken(request):
            return _varied(request, get_response(request))

    return answer


def _spoken(request: HttpRequest) -> AbstractContextManager[object]:
    if not request.path_info.startswith(_PAGES):
        return nullcontext()
    return translation.override(translation.get_language_from_request(request))


def _varied(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    if request.path_info.startswith(_PAGES):
        patch_vary_headers(response, ("Accept-Language",))
        response.headers["Content-Language"] = translation.get_language()
    return response
