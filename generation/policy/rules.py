"""The content policy: blocked terms of the deployment, of a profile and of a key, and the bounds of a profile.

Which texts are looked at: generation/policy/subjects.py. Which spellings of a term are found:
generation/policy/terms.py.

A refusal is recorded with its reason and rule, without the text.
"""

import functools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from django.conf import settings

from generation.accounts.models import ApiKey
from generation.policy import subjects
from generation.policy.models import BlockedTerm, PolicyProfile, PolicyRefusal
from generation.policy.subjects import PolicySubject
from generation.policy.terms import Matcher
from imagegenx_site.errors import Fault
from imagegenx_site.ttl import TtlValue

KEPT_S: Final = 2.0  # an admin's change is seen by every process within
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Term:
    """A blocked term, and whom it holds for: everybody, the keys of a profile, or a key and those made from it."""

    row: int
    term: str
    reason: str
    profile: int | None
    key: int | None

    def applies_to(self, key: ApiKey) -> bool:
        return (self.profile in (None, key.profile_id)) and (self.key in (None, key.pk, *key.terms_of))


def faults(key: ApiKey, subject: PolicySubject) -> list[Fault]:
    """Why the request is refused; empty when it is not. Each refusal is recorded."""
    found = [*_term_faults(key, subject)]
    profile = _rules.get().profiles.get(key.profile_id) if key.profile_id else None
    if profile and subject.makes_pictures:
        found += _no_checker(profile)
    if profile and subject.prompts:
        found += _profile_faults(profile, subject)
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


def is_child_safe(key: ApiKey) -> bool:
    """Whether the key is bound to a profile that allows child-safe styles only."""
    profile = _rules.get().profiles.get(key.profile_id) if key.profile_id else None
    return profile is not None and profile.child_safe_styles


def allowed_styles_and_subjects(key: ApiKey) -> tuple[bool, tuple[str, ...]]:
    """Whether the key may use child-safe styles only, and of which subjects its prompts must name one; none: of any."""
    profile = _rules.get().profiles.get(key.profile_id) if key.profile_id else None
    return (profile.child_safe_styles, tuple(profile.subjects)) if profile else (False, ())


def is_checked(required: bool) -> bool:
    """Whether the pictures of a task are checked; `required`: by the profile of its key (`must_check`)."""
    return required or bool(settings.IMAGE_CHECKER and settings.IMAGE_CHECK == "all")


def _term_faults(key: ApiKey, subject: PolicySubject) -> Iterator[tuple[Fault, str]]:
    """One fault for each field and reason. A prompt's text is blamed for what only its composed form contains."""
    matcher = _rules.get().matcher

    def find(text: str) -> set[Term]:
        return set().union(*map(matcher.find, subjects.readings(text)))

    seen: set[Term] = set()
    for field, text in (*subject.prompts, *subject.texts):
        found = {term for term in find(text) if term.applies_to(key)}
        seen |= found
        yield from _blamed(field, found)
    for composed in subject.composed:
        found = {term for term in find(composed.text) - seen if term.applies_to(key)}
        yield from _blamed(composed.field, found - find(composed.own) if found else found)


def _blamed(field: str, terms: Iterable[Term]) -> Iterator[tuple[Fault, str]]:
    reasons = {term.reason: term for term in sorted(terms, key=lambda term: -term.row)}
    for reason, term in sorted(reasons.items()):
        yield Fault(field, f"policy_{reason}", "The content policy does not allow this text."), f"term:{term.row}"


def _no_checker(profile: PolicyProfile) -> Iterable[tuple[Fault, str]]:
    if profile.check_images and not settings.IMAGE_CHECKER:
        message = "This key's pictures must be checked, and there is no checker. Ask the operator to set IMAGE_CHECKER."
        yield Fault("key", "policy_no_checker", message), f"profile:{profile.pk}"


def _profile_faults(profile: PolicyProfile, subject: PolicySubject) -> Iterable[tuple[Fault, str]]:
    """What a profile says of what is drawn."""
    rule = f"profile:{profile.pk}"
    if profile.child_safe_styles and (subject.style is None or not subject.style.child_safe):
        message = "This key may use styles that are marked as child-safe only; see /api/v1/styles."
        yield Fault("params.style", "policy_style", message), rule
    if profile.model_names and subject.model and subject.model.name not in profile.model_names:
        message = f"This key may use these models: {', '.join(profile.model_names)}."
        yield Fault("params.model", "policy_model", message), rule
    for name, text in subject.prompts if profile.subjects else ():
        if not _subjects(tuple(profile.subjects)).find(text):
            message = f"This key may draw these subjects: {', '.join(profile.subjects)}."
            yield Fault(name, "policy_subject", message), rule


@functools.lru_cache(64)
def _subjects(names: tuple[str, ...]) -> Matcher[str]:
    """A subject counts only as it is written: what is hidden in other words is not what the text is about."""
    return Matcher(((name, name) for name in names), joined=False)


@dataclass(frozen=True)
class _Rules:
    matcher: Matcher[Term]
    profiles: dict[int, PolicyProfile]


def _read() -> _Rules:
    rows = BlockedTerm.objects.filter(enabled=True)
    terms = tuple(Term(row.pk, row.term, row.reason, row.profile_id, row.api_key_id) for row in rows)
    return _Rules(_matcher(terms), PolicyProfile.objects.in_bulk())


@functools.lru_cache(2)
def _matcher(terms: tuple[Term, ...]) -> Matcher[Term]:
    """Kept, because terms are read every KEPT_S and change rarely."""
    return Matcher((term.term, term) for term in terms)


_rules = TtlValue(_read, KEPT_S)


def reload() -> None:
    """Read terms and profiles anew at the next request (after a change in this process)."""
    _rules.drop()
