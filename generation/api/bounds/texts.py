"""Bounds of what the texts of a request cost to look at: the content policy reads each in several ways, which takes
microseconds for each letter that there is after normalisation, and one sign can stand for eighteen.
"""

from typing import Final

from generation.policy import letters
from generation.policy.subjects import PolicySubject
from imagegenx_site.errors import Fault

MOST_LETTERS: Final = 200_000  # of all texts of a request: 100 prompts of 2000
GROWTH: Final = 4  # letters that the signs of a text may stand for, on average


def faults(subject: PolicySubject) -> list[Fault]:
    """What makes the texts too costly; empty when nothing does."""
    total = 0
    for field, text in (*subject.prompts, *subject.texts):
        count = len(text) if text.isascii() else len(letters.shown(text)[0])
        if count > GROWTH * len(text) + 100:
            return [Fault(field, "malformed", "Its signs stand for many letters each. Write the letters.")]
        total += count
    if total <= MOST_LETTERS:
        return []
    field = subject.prompts[0][0].partition("[")[0] if subject.prompts else ""
    return [Fault(field, "too_large", f"All texts of a request may have {MOST_LETTERS} letters together.")]
