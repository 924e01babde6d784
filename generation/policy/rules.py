"""The content policy: blocked terms of the deployment, of a profile and of a key, and the bounds of a profile.

Texts are normalised before they are compared: case, accents, width, invisible characters, look-alike letters, digits
in place of letters and spaced-out letters (`b l o o d`) make no difference. Terms in scripts with spaces match whole
words (and their plurals), terms in other scripts match anywhere.

A refusal is recorded with its reason and rule, without the text.
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
from imagegenx_site.ttl import TtlValue

KEPT_S: Final = 2.0  # an admin's change is seen by every process within
_LOOK_ALIKES: Final = str.maketrans("авекмнорстухіјѕԁɡαεικνορτυχ", "abekmhopctyxijsdgaeiknoptux")
_DIGIT_LETTERS: Final = str.maketrans("013457@$!|", "oieastasil")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Term:
    """A blocked term. `plain`: its normalised form; `spaced`: of a script that writes spaces between words."""

    row: int
    plain: str
    spaced: bool
    reason: str
    profile: int | None
    key: int | None

    def applies_to(self, key: ApiKey) -> bool:
        return (self.profile in (None, key.profile_id)) and (self.key in (None, key.pk, *key.terms_of))


@dataclass(frozen=True)
class PolicySubject:
    """What policy checks of a request. `texts`: (field name, text)."""

    texts: tuple[tuple[str, str], ...]
    style: Style | None
    model: ImageModel | None
    kind: str


def faults(key: ApiKey, subject: PolicySubject) -> list[Fault]:
    """Why the request is refused; empty when it is not. Each refusal is recorded."""
    found = [*_term_faults(key, subject.texts)]
    if key.profile_id:
        profile = _rules.get().profiles.get(key.profile_id)
        found += _profile_faults(profile, subject) if profile else []
    for fault, rule in found:
        PolicyRefusal.objects.create(user_id=key.user_id, api_key=key, reason=fault.code, rule=rule, kind=subject.kind)
        _log.info("refused by policy", extra={"reason": fault.code, "rule": rule, "key": key.prefix})
    return [fault for fault, _ in found]


def keys_with_terms() -> frozenset[int]:
    """The keys that have blocked terms of their own, as they are in the database now."""
    return frozenset(BlockedTerm.objects.exclude(api_key=None).values_list("api_key_id", flat=True))


def must_check(key: ApiKey) -> bool:
    """Whether the key's profile requires its pictures to be checked (workers/stages/picture_check.py)."""
    profile = _rules.get().profiles.get(key.profile_id) if key.profile_id else None
    return profile is not None and profile.check_images


def is_checked(required: bool) -> bool:
    """Whether the pictures of a task are checked; `required`: by the profile of its key (`must_check`)."""
    return required or bool(settings.IMAGE_CHECKER and settings.IMAGE_CHECK == "all")


def _term_faults(key: ApiKey, texts: Sequence[tuple[str, str]]) -> Iterable[tuple[Fault, str]]:
    terms = [term for term in _rules.get().terms if term.applies_to(key)]
    for name, text in texts if terms else ():
        forms = _Forms(text)
        reasons = {term.reason: term for term in terms if forms.contain(term.plain, term.spaced)}
        for reason, term in reasons.items():
            yield Fault(name, f"policy_{reason}", "The content policy does not allow this text."), f"term:{term.row}"


def _profile_faults(profile: PolicyProfile, subject: PolicySubject) -> Iterable[tuple[Fault, str]]:
    rule = f"profile:{profile.pk}"
    if profile.check_images and not settings.IMAGE_CHECKER:
        message = "This key's pictures must be checked, and there is no checker. Ask the operator to set IMAGE_CHECKER."
        yield Fault("key", "policy_no_checker", message), rule
    if profile.child_safe_styles and (subject.style is None or not subject.style.child_safe):
        message = "This key may use styles that are marked as child-safe only; see /api/v1/styles."
        yield Fault("params.style", "policy_style", message), rule
    if profile.model_names and subject.model and subject.model.name not in profile.model_names:
        message = f"This key may use these models: {', '.join(profile.model_names)}."
        yield Fault("params.model", "policy_model", message), rule
    allowed_subjects = [(plain_form(text), _is_spaced(text)) for text in profile.subjects]
    for name, text in subject.texts if allowed_subjects else ():
        forms = _Forms(text)
        if name != "params.style_keywords" and not any(forms.contain(*allowed) for allowed in allowed_subjects):
            message = f"This key may draw these subjects: {', '.join(profile.subjects)}."
            yield Fault(name, "policy_subject", message), rule


class _Forms:
    """The normalised readings of a text, in which terms are searched."""

    def __init__(self, text: str) -> None:
        words = plain_form(text)
        forms = [words, _merged(words), *map(_merged, {words.translate(_DIGIT_LETTERS), _digits_as_letters(text)})]
        self._spaced = tuple(f" {form} " for form in dict.fromkeys(forms))
        self._solid = words.replace(" ", "")

    def contain(self, term: str, spaced: bool) -> bool:
        if not spaced:
            return term in self._solid
        words = (f" {term} ", f" {term}s ", f" {term}es ")
        return any(word in form for form in self._spaced for word in words)


def plain_form(text: str) -> str:
    """The text without case, accents, compatibility forms, invisible characters and punctuation, and with look-alike
    letters replaced.
    """
    folded = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).casefold())
    visible = (sign for sign in folded if unicodedata.category(sign) not in ("Mn", "Cf", "Cc") or sign in "\n\t")
    letters = "".join(visible).translate(_LOOK_ALIKES)
    return " ".join("".join(sign if sign.isalnum() else " " for sign in letters).split())


def _digits_as_letters(text: str) -> str:
    """The plain form with digits and symbols replaced by the letters that they resemble."""
    return plain_form(text.translate(_DIGIT_LETTERS)).translate(_DIGIT_LETTERS)


def _merged(words: str) -> str:
    """Successive single letters joined to one word: `b l o o d` becomes `blood`."""
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
    """Whether the text is in a script with spaces between words."""
    return not any(unicodedata.name(sign, "").startswith(_SOLID_SCRIPTS) for sign in text)


_SOLID_SCRIPTS: Final = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")


@dataclass(frozen=True)
class _Rules:
    terms: tuple[Term, ...]
    profiles: dict[int, PolicyProfile]


def _read() -> _Rules:
    return _Rules(tuple(map(_term, BlockedTerm.objects.filter(enabled=True))), PolicyProfile.objects.in_bulk())


_rules = TtlValue(_read, KEPT_S)


@functools.lru_cache(20_000)
def _prepared(text: str) -> tuple[str, bool]:
    return (plain_form(text), True) if _is_spaced(text) else (plain_form(text).replace(" ", ""), False)


def _term(row: BlockedTerm) -> Term:
    plain, spaced = _prepared(row.term)
    return Term(row.pk, plain, spaced, row.reason, row.profile_id, row.api_key_id)


def reload() -> None:
    """Read terms and profiles anew at the next request (after a change in this process)."""
    _rules.drop()
