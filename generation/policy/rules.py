"""What may be asked for: blocked terms of the deployment, of a profile and of a key, and a profile's bounds.

A text is compared in a form where case, accents, width, invisible characters, look-alike letters, digits that stand for
letters and letters set apart (`b l o o d`) make no difference. Terms of scripts that write spaces match whole words
(and their plurals), terms of the others match anywhere.

A refusal is written down with its reason and rule, without the text.
"""

import functools
import logging
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from django.conf import settings

from generation.accounts.models import ApiKey
from generation.catalogue.models import ImageModel, Style
from generation.policy.models import BlockedTerm, PolicyProfile, PolicyRefusal
from imagegenx_site.errors import Fault
from imagegenx_site.fresh import Fresh

KEPT_S: Final = 2.0  # an admin's change is seen by every process within
_LOOK_ALIKES: Final = str.maketrans("авекмнорстухіјѕԁɡαεικνορτυχ", "abekmhopctyxijsdgaeiknoptux")
_DIGIT_LETTERS: Final = str.maketrans("013457@$!|", "oieastasil")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Term:
    """A blocked term in the form in which it is compared."""

    row: int
    plain: str
    spaced: bool
    reason: str
    profile: int | None
    key: int | None

    def applies_to(self, key: ApiKey) -> bool:
        """Whether this key's requests are compared with it."""
        return (self.profile in (None, key.profile_id)) and (self.key in (None, key.pk))


@dataclass(frozen=True)
class Asked:
    """What a request wants, as far as policy looks at it. `texts` are field names and their words."""

    texts: tuple[tuple[str, str], ...]
    style: Style | None
    model: ImageModel | None
    kind: str


def faults(key: ApiKey, asked: Asked) -> list[Fault]:
    """Why the request is refused; nothing when it is not. Each refusal is written down."""
    found = [*_blocked(key, asked.texts)]
    if key.profile_id:
        profile = _rules.get().profiles.get(key.profile_id)
        found += _out_of_bounds(profile, asked) if profile else []
    for fault, rule in found:
        PolicyRefusal.objects.create(user_id=key.user_id, api_key=key, reason=fault.code, rule=rule, kind=asked.kind)
        _log.info("refused by policy", extra={"reason": fault.code, "rule": rule, "key": key.prefix})
    return [fault for fault, _ in found]


def must_check(key: ApiKey) -> bool:
    """Whether the key's profile wants its pictures looked at (workers/stages/picture_check.py)."""
    profile = _rules.get().profiles.get(key.profile_id) if key.profile_id else None
    return profile is not None and profile.check_images


def is_checked(wanted: bool) -> bool:
    """Whether pictures are looked at, of a task whose key's profile wants it or not."""
    return wanted or bool(settings.IMAGE_CHECKER and settings.IMAGE_CHECK == "all")


def _blocked(key: ApiKey, texts: Sequence[tuple[str, str]]) -> Iterable[tuple[Fault, str]]:
    terms = [term for term in _rules.get().terms if term.applies_to(key)]
    for name, text in texts if terms else ():
        forms = _Forms(text)
        reasons = {term.reason: term for term in terms if forms.holds(term.plain, term.spaced)}
        for reason, term in reasons.items():
            yield Fault(name, f"policy_{reason}", "The content policy does not allow this text."), f"term:{term.row}"


def _out_of_bounds(profile: PolicyProfile, asked: Asked) -> Iterable[tuple[Fault, str]]:
    rule = f"profile:{profile.pk}"
    if profile.check_images and not settings.IMAGE_CHECKER:
        message = "This key's pictures must be checked, and there is no checker. Ask the operator to set IMAGE_CHECKER."
        yield Fault("key", "policy_no_checker", message), rule
    if profile.child_safe_styles and (asked.style is None or not asked.style.child_safe):
        message = "This key may use styles that are marked as child-safe only; see /api/v1/styles."
        yield Fault("params.style", "policy_style", message), rule
    if profile.model_names and asked.model and asked.model.name not in profile.model_names:
        message = f"This key may use these models: {', '.join(profile.model_names)}."
        yield Fault("params.model", "policy_model", message), rule
    subjects = [(plain_form(subject), _is_spaced(subject)) for subject in profile.subjects]
    for name, text in asked.texts if subjects else ():
        forms = _Forms(text)
        if name != "params.style_keywords" and not any(forms.holds(*subject) for subject in subjects):
            message = f"This key may draw these subjects: {', '.join(profile.subjects)}."
            yield Fault(name, "policy_subject", message), rule


class _Forms:
    """A text in the forms in which terms are looked for."""

    def __init__(self, text: str) -> None:
        words = plain_form(text)
        read = [words, _merged(words), *map(_merged, {words.translate(_DIGIT_LETTERS), _without_signs(text)})]
        self._spaced = tuple(f" {form} " for form in dict.fromkeys(read))
        self._solid = words.replace(" ", "")

    def holds(self, term: str, spaced: bool) -> bool:
        if not spaced:
            return term in self._solid
        wanted = (f" {term} ", f" {term}s ", f" {term}es ")
        return any(want in form for form in self._spaced for want in wanted)


def plain_form(text: str) -> str:
    """The text without what readers overlook: compatibility forms, case, accents, invisible signs, look-alikes,
    punctuation.
    """
    folded = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).casefold())
    visible = (sign for sign in folded if unicodedata.category(sign) not in ("Mn", "Cf", "Cc") or sign in "\n\t")
    letters = "".join(visible).translate(_LOOK_ALIKES)
    return " ".join("".join(sign if sign.isalnum() else " " for sign in letters).split())


def _without_signs(text: str) -> str:
    """The plain form with digits and signs read as the letters they look like."""
    return plain_form(text.translate(_DIGIT_LETTERS)).translate(_DIGIT_LETTERS)


def _merged(words: str) -> str:
    """Letters that stand alone, one after the other, as the word they spell."""
    merged: list[str] = []
    alone = False
    for word in words.split(" "):
        if len(word) == 1 and alone:
            merged[-1] += word
        else:
            merged.append(word)
        alone = len(word) == 1
    return " ".join(merged)


def _is_spaced(text: str) -> bool:
    """Whether the term is of a script that puts spaces between words."""
    return not any(unicodedata.name(sign, "").startswith(_SOLID_SCRIPTS) for sign in text)


_SOLID_SCRIPTS: Final = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")


@dataclass(frozen=True)
class _Rules:
    terms: tuple[Term, ...]
    profiles: dict[int, PolicyProfile]


def _read() -> _Rules:
    return _Rules(tuple(map(_term, BlockedTerm.objects.filter(enabled=True))), PolicyProfile.objects.in_bulk())


_rules = Fresh(_read, KEPT_S)


@functools.lru_cache(20_000)
def _prepared(text: str) -> tuple[str, bool]:
    return (plain_form(text), True) if _is_spaced(text) else (plain_form(text).replace(" ", ""), False)


def _term(row: BlockedTerm) -> Term:
    plain, spaced = _prepared(row.term)
    return Term(row.pk, plain, spaced, row.reason, row.profile_id, row.api_key_id)


def reload() -> None:
    """Read terms and profiles anew at the next request (after a change in this process)."""
    _rules.drop()
