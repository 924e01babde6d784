"""What of a request will not count, as far as it shows at its submission: sentences in the task's `warnings`."""

import json
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from generation.catalogue import snapshot
from generation.catalogue.file_notes import prompt_of
from generation.catalogue.model_files import located
from generation.catalogue.models import ImageModel
from generation.catalogue.parameters import Parameters
from postprocessing.fonts import SHIPPED_FAMILY, is_installed
from postprocessing.metadata import too_long_for_jpeg

_ENGLISH_ONLY: Final = ("sd15", "sd21", "sdxl", "sd-inpaint", "sd3", "flux")
"""Families whose text encoders were trained on English. The option `languages` of a model says it better."""
_SCRIPTS: Final = {
    "CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean", "CYRILLIC": "Cyrillic",
    "ARABIC": "Arabic", "HEBREW": "Hebrew", "GREEK": "Greek", "THAI": "Thai", "DEVANAGARI": "Hindi",
}  # fmt: skip
_READ_BY: Final = {
    "Chinese": {"zh", "ja"}, "Japanese": {"ja"}, "Korean": {"ko"}, "Cyrillic": {"ru", "uk", "bg", "sr"},
    "Arabic": {"ar", "fa", "ur"}, "Hebrew": {"he"}, "Greek": {"el"}, "Thai": {"th"}, "Hindi": {"hi"},
}  # fmt: skip
_WORD: Final = re.compile(r"(?<![^\W_])[a-z]{4,}(?![^\W_])")
_SMALL_WORDS: Final = frozenset(
    ("with", "from", "over", "this", "that", "into", "some", "very", "each", "only", "under")
)
_MOST_NAMED: Final = 8
_MOST_BYTES: Final = 1 << 20  # of a vocabulary


def submission_warnings(parameters: Parameters, model: ImageModel | None) -> list[str]:
    """For the client, in the order of the request."""
    if model is None:
        return list(_output(parameters))
    return [
        *_smaller(parameters), *_unread(parameters, model), *_unknown(parameters, model), *_style(parameters, model),
        *_output(parameters),
    ]  # fmt: skip


def _smaller(parameters: Parameters) -> Iterator[str]:
    if parameters.lowered_from:
        made = f"{parameters.width}x{parameters.height}"
        yield f"made at {made} instead of {parameters.lowered_from}, because more work waits than can be done soon"


def _unread(parameters: Parameters, model: ImageModel) -> Iterator[str]:
    """Words in languages that the model was not trained on."""
    languages = languages_of(model)
    if not languages:
        return
    known = " and ".join({"en": "English", "zh": "Chinese"}.get(one, one) for one in languages)
    for title, text in (("prompt", parameters.text), ("negative prompt", parameters.negative_text)):
        if strange := unread(text, languages):
            words = " and ".join(strange)
            yield f"the {title} has {words} words, and model {model.name} reads only {known}: they hardly count"


def languages_of(model: ImageModel) -> list[str]:
    """The languages that the model was trained on (ISO 639-1); none where they are not known."""
    found: list[str] = model.options.get("languages") or (["en"] if model.family in _ENGLISH_ONLY else [])
    return found


def unread(text: str, languages: Collection[str]) -> list[str]:
    """The scripts of a text that are of none of these languages."""
    return [name for name in _languages(text) if not _READ_BY[name] & set(languages)]


def _unknown(parameters: Parameters, model: ImageModel) -> Iterator[str]:
    """English words that a model of few words has never read; the option `vocabulary` names the file of the others."""
    known = known_words(model)
    if not known:
        return
    words = dict.fromkeys(_WORD.findall(parameters.text.lower()))
    strange = [word for word in words if not {word, word.removesuffix("s"), word.removesuffix("es")} & known]
    if strange:
        named = ", ".join(word[:40] for word in strange[:_MOST_NAMED]) + (" ..." if len(strange) > _MOST_NAMED else "")
        yield f"model {model.name} knows none of these words, they hardly count: {named}"


def known_words(model: ImageModel) -> frozenset[str]:
    """All English words that a model of few words has read; none where it knows too many to name."""
    file = model.options.get("vocabulary")
    return _vocabulary(str(located(model.source) / file)) if file else frozenset()


@lru_cache(8)
def _vocabulary(path: str) -> frozenset[str]:
    """Empty where this process cannot read it, and for what is no list of words: everybody is shown what is in it."""
    file = Path(path)
    try:
        words = json.loads(file.read_text("utf-8")) if file.is_file() and file.stat().st_size <= _MOST_BYTES else None
    except (OSError, ValueError):
        return frozenset()
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return frozenset()
    return frozenset(words) | _SMALL_WORDS


def _languages(text: str) -> list[str]:
    """By the scripts of its letters, Latin left out."""
    names = {unicodedata.name(sign, "").partition(" ")[0] for sign in set(text) if not sign.isascii()}
    return sorted({_SCRIPTS[name] for name in names if name in _SCRIPTS})


def _style(parameters: Parameters, model: ImageModel) -> Iterator[str]:
    """Models that know few words get none of a style's."""
    style = snapshot.current().style(parameters.style) if parameters.style else None
    if style is None or model.options.get("style_prompts", True):
        return
    if style.negative_prompt or style.prompt.strip() != "{text}":
        yield f"model {model.name} does not know the words of the style {style.name}: only its tone was applied"


def _output(parameters: Parameters) -> Iterator[str]:
    block = parameters.postprocess
    given = block.get("watermark") or ()
    marks = [given] if isinstance(given, Mapping) else given
    for family in dict.fromkeys(mark.get("font") for mark in marks):
        if family and not is_installed(family):
            yield f"the font {family} is not installed: the watermark has the one that ships, {SHIPPED_FAMILY}"
    full = block.get("format") == "jpeg" and block.get("metadata", "full") == "full"
    if full and too_long_for_jpeg(prompt_of(parameters), parameters.negative_text):
        yield "the prompts in the file's metadata are shortened: a JPEG holds 64 KB of them"
