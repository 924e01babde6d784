"""Texts in languages that a model was not trained on, translated by a server that speaks LibreTranslate's protocol:

    POST {TRANSLATOR_URL}/translate   {"q": [text, ...], "source": "auto", "target": "en", "format": "text", "api_key"}
    200                               {"translatedText": [text, ...]}

The operator names its address, so it may lie in a private network. A request waits for it on the event loop, for
TRANSLATOR_TIMEOUT_S at most; who gets no answer goes on with the texts as they are, and the task says so.
"""

import json
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.conf import settings

from generation.catalogue.models import ImageModel
from generation.catalogue.request_warnings import languages_of, unread
from imagegenx_site.http.outbound import OutboundError, ask
from imagegenx_site.slots import Slots, SlotsFull

MAX_CHARACTERS: Final = 10_000  # of a request's texts together
_GROWTH: Final = 8  # bytes of the answer for each character that is sent, at most; escapes take six
_PER_USER, _AT_ONCE = 8, 32  # requests of this process that wait for it
_KEPT: Final = 500  # translations; the same text has the same one, so that results of a seed can be found again
_ANYWHERE: Final = ("0.0.0.0/0", "::/0")
_log = logging.getLogger(__name__)
_slots = Slots()
_kept: OrderedDict[tuple[str, str], str] = OrderedDict()


@dataclass(frozen=True)
class Translated:
    """`texts`: original -> translation. `warning`: why there is none."""

    texts: Mapping[str, str] = field(default_factory=dict)
    warning: str = ""


def unread_texts(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of a checked request that its model does not read; none without a translator."""
    model: ImageModel | None = values["model"]
    if not settings.TRANSLATOR_URL or model is None or not (languages := languages_of(model)):
        return ()
    params = values.get("params", {})
    given = [*values.get("texts", ()), values.get("text", ""), params.get("negative_text", "")]
    return tuple(dict.fromkeys(text for text in given if unread(text, languages)))


def with_texts(values: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """The values of a checked request with these texts translated."""
    found = dict(values)
    if "text" in found:
        found["text"] = texts.get(found["text"], found["text"])
    if "texts" in found:
        found["texts"] = [texts.get(text, text) for text in found["texts"]]
    negative = found.get("params", {}).get("negative_text", "")
    if negative in texts:
        found["params"] = {**found["params"], "negative_text": texts[negative]}
    return found


async def translate(texts: Sequence[str], model: ImageModel, user_id: int) -> Translated:
    """Raises nothing."""
    target = languages_of(model)[0]
    known = {text: _kept[target, text] for text in texts if (target, text) in _kept}
    left = [text for text in texts if text not in known]
    try:
        if sum(map(len, left)) > MAX_CHARACTERS:
            raise OutboundError(f"there are more than {MAX_CHARACTERS} characters to translate")
        if left:
            with _slots.hold((f"user {user_id}", _PER_USER), ("all", _AT_ONCE)):
                new = dict(zip(left, await _asked(left, target), strict=True))
            _keep(target, new)
            known |= new
        return Translated(known)
    except (OutboundError, SlotsFull, ValueError, KeyError, TypeError) as error:
        _log.warning("not translated: %s: %s", type(error).__name__, error)
        return Translated(warning="the prompt was not translated, because the translator did not answer")


async def _asked(texts: Sequence[str], target: str) -> list[str]:
    """Raises OutboundError, or ValueError, KeyError and TypeError for what is no answer."""
    asked = {"q": list(texts), "source": "auto", "target": target, "format": "text"}
    body = json.dumps(asked | ({"api_key": settings.TRANSLATOR_KEY} if settings.TRANSLATOR_KEY else {})).encode()
    most = _GROWTH * sum(map(len, texts)) + (4 << 10)
    answer = await ask(
        f"{settings.TRANSLATOR_URL.rstrip('/')}/translate",
        body,
        {"Content-Type": "application/json"},
        timeout=settings.TRANSLATOR_TIMEOUT_S,
        allowed=_ANYWHERE,
        max_bytes=most,
    )
    found = json.loads(answer)["translatedText"]
    if not isinstance(found, list) or len(found) != len(texts) or not all(isinstance(one, str) for one in found):
        raise ValueError("translatedText is no list of as many texts")
    return [one.replace("\0", "").encode("utf-8", "ignore").decode()[:MAX_CHARACTERS] for one in found]


def _keep(target: str, texts: Mapping[str, str]) -> None:
    for text, translation in texts.items():
        _kept[target, text] = translation
    while len(_kept) > _KEPT:
        _kept.popitem(last=False)
