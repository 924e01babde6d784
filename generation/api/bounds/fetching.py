"""Pictures that a request names by address are fetched between two halves of the request: the first checks it in a
thread, the second goes on in a thread when they are there. In between it waits on the event loop and holds no thread
(imagegenx_site/deferred.py), so that servers which never answer stop nobody.

Bounds: INPUT_TIMEOUT_S for all of a request's pictures; FETCHES_PER_USER, OUTBOUND_PER_HOST and FETCHES at once. To
decode large pictures takes seconds of a thread: a user has PICTURES_PER_USER such requests in threads, the others of
that user wait on the event loop too, PICTURE_REQUESTS_PER_USER in all.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from django.conf import settings
from django.http.response import HttpResponseBase
from rest_framework.response import Response

from generation.accounts.models import ApiKey
from generation.api.authentication import KeyRequest
from generation.api.base import ApiView
from generation.api.bounds.translation import Translated, translate
from generation.api.submission import CheckedRequest, ParsedRequest
from generation.api.wait import DeferredResponse
from imagegenx_site.deferred import Deferred, may_defer
from imagegenx_site.errors import ApiError, Busy, Fault, InvalidRequest, TooManyRequests
from imagegenx_site.http.outbound import HostBusy, OutboundError, get
from imagegenx_site.slots import Claim, Slots, SlotsFull

_ALL: Final = "all"
_requests, _fetches, _decodes = Slots(), Slots(), Slots()


def with_pictures(
    view: ApiView, request: KeyRequest, checked: CheckedRequest, answer: Callable[[ParsedRequest], Response]
) -> Response:
    """`answer` of the request with its pictures, and in its model's language: at once where nothing is to be waited
    for, else deferred.
    """
    if not checked.has_pictures and not checked.unread:
        return answer(checked.parsed({}))
    if checked.addresses:
        refuse_without_slot(checked.api_key)
    pictures = _Pictures(checked)
    if not may_defer(request._request):
        asyncio.run(pictures.wait())
        return pictures.then(answer)

    def go_on(_: bool, accepted: HttpResponseBase) -> HttpResponseBase:
        return view.resume(accepted, lambda: pictures.then(answer))

    response = DeferredResponse(status=202)
    response.deferred = Deferred(pictures.wait, go_on, pictures.let_go)
    return response


def refuse_without_slot(key: ApiKey) -> None:
    """Raises TooManyRequests or Busy when no more pictures may be fetched for this user now.

    Asked before a request is looked at any further: who has a hundred requests hanging sends them again and again, and
    what a refusal costs is time that others lack.
    """
    try:
        _fetches.check(*_fetch_claims(key.user_id))
    except SlotsFull as full:
        raise _too_many(full) from full


def names_address(data: Any, roles: Collection[str]) -> bool:
    """Whether a body, as it came, has the address of a picture in one of these fields."""
    fields = [name for role in roles for name in (role, f"{role}_url")]
    given = [data.get(name) for name in (*fields, "images", "image_urls")] if isinstance(data, Mapping) else []
    flat = [one for value in given for one in (value if isinstance(value, list) else [value])]
    return any(isinstance(one, str) and one[:4].lower() == "http" for one in flat)


def _fetch_claims(user_id: int) -> tuple[Claim, ...]:
    return (f"user {user_id}", settings.FETCHES_PER_USER), (_ALL, settings.FETCHES)


class _Pictures:
    """The pictures of one request: `wait` on the event loop, then `then` or `let_go` in a thread."""

    def __init__(self, checked: CheckedRequest) -> None:
        self._checked = checked
        user = f"user {checked.api_key.user_id}"
        self._fetch = _fetch_claims(checked.api_key.user_id)
        self._request = (user, settings.PICTURE_REQUESTS_PER_USER)
        self._decode = ((user, settings.PICTURES_PER_USER), (_ALL, max(1, settings.WEB_THREADS // 2)))
        self._holds_decode = False
        self._fetched: dict[str, bytes] = {}
        self._translated = Translated()
        self._error: ApiError | None = None

    async def wait(self) -> bool:
        """Translate, fetch what has an address, then wait for the turn to decode. Errors are kept for `then`."""
        if texts := self._checked.unread:
            self._translated = await translate(texts, self._checked.values["model"], self._checked.api_key.user_id)
        if not self._checked.has_pictures:
            return True
        try:
            with _requests.hold(self._request):
                if self._checked.addresses:
                    with _fetches.hold(*self._fetch):
                        self._fetched = await _fetch_all(self._checked.addresses)
                await _decodes.take_in_turn(*self._decode, seconds=settings.INPUT_TIMEOUT_S)
                self._holds_decode = True
        except SlotsFull as full:
            self._error = _too_many(full)
        except InvalidRequest as error:
            self._error = self._checked.asked.as_sent(error)
        except ApiError as error:
            self._error = error
        return True

    def then(self, answer: Callable[[ParsedRequest], Response]) -> Response:
        """The request goes on. Raises what `wait` met."""
        try:
            if self._error:
                raise self._error
            parsed = self._checked.parsed(self._fetched, self._translated)
        finally:
            self.let_go()
        return answer(parsed)

    def let_go(self) -> None:
        """Others may decode; also when the client has gone."""
        if self._holds_decode:
            self._holds_decode = False
            _decodes.give_back(*self._decode)


async def _fetch_all(addresses: Mapping[str, str]) -> dict[str, bytes]:
    """The pictures by their fields, together no longer than a body may be. Raises InvalidRequest with each that can't
    be had, TooManyRequests.
    """
    most = min(settings.MAX_INPUT_BYTES, settings.MAX_BODY_BYTES // len(addresses))
    found = await asyncio.gather(*(_fetch(url, most) for url in addresses.values()))
    answers = dict(zip(addresses, found, strict=True))
    if any(isinstance(answer, HostBusy) for answer in found):
        raise TooManyRequests("Too many pictures of this host are being fetched. Try again.", retry_after=2)
    faults = [
        Fault(field, "not_fetched", f"The picture could not be fetched: {answer}")
        for field, answer in answers.items()
        if isinstance(answer, OutboundError)
    ]
    if faults:
        raise InvalidRequest(faults)
    return {field: answer for field, answer in answers.items() if isinstance(answer, bytes)}


async def _fetch(url: str, max_bytes: int) -> bytes | OutboundError:
    try:
        return await get(
            url,
            timeout=settings.INPUT_TIMEOUT_S,
            allowed=settings.PRIVATE_CALLBACKS,
            max_bytes=max_bytes,
        )
    except OutboundError as error:
        return error


def _too_many(full: SlotsFull) -> ApiError:
    if full.holder == _ALL:
        return Busy("Too many pictures are on their way at the moment. Try again.", retry_after=2)
    message = "Too many of your requests with pictures are under way at once. Wait for some of them, then send again."
    return TooManyRequests(message, retry_after=2)
