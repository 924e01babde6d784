"""Fields that take one of several words."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from rest_framework import serializers

from generation.api.requests import spellings


def folded(word: str) -> str:
    """What is left of a word without case, spaces and signs."""
    return re.sub(r"[\W_]", "", word.casefold())


class OneOf(serializers.ChoiceField):
    """A word in upper or lower case, with whatever spaces and signs. `also`: other words -> those that they stand for.
    What is none of them is refused with all that there are.
    """

    def __init__(self, choices: Iterable[str], *, also: Mapping[str, str] | None = None, **about: Any) -> None:
        super().__init__(choices=tuple(choices), **about)
        self._by_folded = {folded(name): name for name in self.choices} | {
            folded(name): word for name, word in (also or {}).items()
        }

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, str) and data in self.choices:
            return data
        found = self._by_folded.get(folded(data)) if isinstance(data, str) and data else None
        if found is None:
            given = repr(data)[:60]
            raise serializers.ValidationError(f"{given} is none of: {', '.join(self.choices)}.", code="not_allowed")
        return found


class WholeNumber(serializers.ChoiceField):
    """One of a few numbers, also written as `2x`."""

    def to_internal_value(self, data: Any) -> Any:
        word = data.strip().lower() if isinstance(data, str) else data
        found = spellings.SCALES.get(word) if isinstance(word, str | int) and not isinstance(word, bool) else None
        if found not in self.choices:
            known = " or ".join(map(str, self.choices))
            raise serializers.ValidationError(f"{repr(data)[:60]} is not {known}.", code="not_allowed")
        return found
