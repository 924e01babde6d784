"""Where blocked terms stand in a text: every spelling that reads as the term, in time linear to the text.

A text is cut into tokens (generation/policy/letters.py: what each sign is read as); tokens are joined without what
stood between them, and all terms are searched in that at once (Aho-Corasick). A term of a script with spaces counts
where it begins with a token and ends with one. So `blo-od`, `bl ood` and `b l o o d` are found, and `bloodhound` and
`Scunthorpe` are not. Terms of other scripts count anywhere.

Between the tokens of a found term may stand

    nothing but what stands between the term's own words ("severed head")    found
    signs without a space (blo-od, bl.ood, bl/ood, a blank filler)           found
    spaces, tabs, new lines                                                  found, unless each token is a common short
                                                                             word or a number: "a pen is", "an us map",
                                                                             or part of a longer spelling: "B A S S"

A second reading takes digits and symbols for the letters that they resemble (bl00d, $ex, bIood). It counts where one
of them is part of the term, and a letter too: 455 is a number.

Let through on purpose: longer words (bloodhound), repeated letters (bloooood), reversed ones (doolb), masked ones
(bl**d, 裸x体), sounds (blud, luoti), l for i in small letters (klll), I for l in capitals (BIOOD), digits only
(8008), letters in Braille or Morse code, and words in an uploaded picture.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import ahocorasick

from generation.policy import letters

_COMMON: Final = Path(__file__).with_name("common_words.txt")
_ENDINGS: Final = ("", "s", "es")
_CONTRACTED: Final = frozenset(("s", "t", "d", "m", "ll", "re", "ve"))  # what follows an apostrophe: he'll, boy's
_ALONE: Final = frozenset("ai")  # letters that are words
_TOKEN: Final = re.compile(rf"{letters.SOLID.pattern}|[0-9]+|(?:(?!{letters.SOLID.pattern})[^\W0-9_])+")
_WORD: Final = re.compile(rf"{letters.SOLID.pattern}|(?:(?!{letters.SOLID.pattern})[^\W_])+")

Value = TypeVar("Value")


@dataclass(frozen=True)
class Spelling:
    """A term as it is searched. `solid`: its letters without what parts them; `parts`: where its words end in that;
    `spaced`: of a script with spaces between words.
    """

    solid: str
    parts: frozenset[int]
    spaced: bool


@lru_cache(20_000)
def spelling(term: str) -> Spelling:
    """How a term is searched."""
    tokens = _TOKEN.findall(letters.plain(letters.shown(term)[0]))
    ends = [sum(map(len, tokens[:count])) for count in range(1, len(tokens))]
    return Spelling("".join(tokens), frozenset(ends), not any(map(letters.SOLID.match, tokens)))


class _Tokens:
    """A text in tokens: `words`, what stands before each (`gaps`), and where each begins in `solid`, which is all of
    them. `flags`: `solid` with `1` where a digit or a symbol stands for the letter.
    """

    def __init__(self, read: str, pattern: re.Pattern[str], flags: str = "") -> None:
        self.words: list[str] = pattern.findall(read)
        self.gaps: list[str] = pattern.split(read)
        self.starts = [0, *accumulate(map(len, self.words))]
        self.number = {offset: number for number, offset in enumerate(self.starts)}
        self.solid = "".join(self.words)
        between = accumulate(map(len, self.gaps))
        places = [start + gaps for start, gaps in zip(self.starts, between, strict=True)] if flags else []
        self.flags = "".join(flags[at : at + len(word)] for at, word in zip(places, self.words, strict=False))

    def has(self, term: Spelling, begin: int, *, joined: bool) -> bool:
        """Whether the letters of a term that begin at `begin` of `solid` are meant as the term. `joined`: also where
        something else than usual stands between them.
        """
        stop = begin + len(term.solid)
        substitutes = self.flags[begin:stop]
        if self.flags and not ("1" in substitutes and "0" in substitutes):
            return False
        if not term.spaced:
            return True
        first, after = self.number.get(begin), self.number.get(stop)
        if first is None or after is None:
            return False
        is_spelled = stop - begin == after - first > 1  # letter by letter: B A S S is another word than A S S
        if is_spelled and (self._is_letter(first - 1, first) or self._is_letter(after, after)):
            return False
        inner = [one for one in range(first + 1, after) if self.starts[one] - begin not in term.parts]
        if not inner or not joined:
            return not inner
        return not all(map(self._is_loose, inner)) or not all(map(self._is_ordinary, range(first, after)))

    def _is_letter(self, number: int, gap: int) -> bool:
        """Whether a token is one letter and no word, and stands apart at the gap."""
        if not 0 <= number < len(self.words) or not self.gaps[gap]:
            return False
        word = self.words[number]
        return len(word) == 1 and word.isalpha() and word not in _ALONE

    def _is_loose(self, number: int) -> bool:
        """Whether a token stands apart from the one before it, as words do."""
        return letters.SPACE in self.gaps[number] or self._is_contracted(number)

    def _is_contracted(self, number: int) -> bool:
        return self.gaps[number] == letters.APOSTROPHE and self.words[number] in _CONTRACTED

    def _is_ordinary(self, number: int) -> bool:
        """Whether a token is a word or a number of ordinary texts."""
        word, start = self.words[number], self.starts[number]
        is_number = word.isdigit() or "0" not in (self.flags[start : start + len(word)] or "0")
        return is_number or word in _common_words() or self._is_contracted(number)


class Matcher(Generic[Value]):
    """Finds the terms of a list. `joined`: also where signs and spaces stand inside of their words, and in the second
    reading.
    """

    def __init__(self, terms: Iterable[tuple[str, Value]], *, joined: bool = True) -> None:
        self._joined = joined
        listed = [(spelling(term), value) for term, value in terms]
        self._first = _automaton((term, value) for term, value in listed)
        folded = (
            (Spelling(letters.one_of_i_and_l(term.solid), term.parts, term.spaced), value) for term, value in listed
        )
        self._second = _automaton(folded) if joined else None

    def find(self, text: str) -> set[Value]:
        """The values of the terms that the text contains."""
        if self._first is None:
            return set()
        found: set[Value] = set()
        for shown in letters.shown(text):
            found.update(self._search(self._first, _Tokens(letters.plain(shown), _TOKEN)))
            if self._second is not None and letters.SUBSTITUTE.search(shown):
                found.update(self._search(self._second, _Tokens(*_second_reading(shown))))
        return found

    def _search(self, automaton: Any, tokens: _Tokens) -> Iterator[Value]:
        for last, entries in automaton.iter(tokens.solid):
            for term, value in entries:
                if tokens.has(term, last + 1 - len(term.solid), joined=self._joined):
                    yield value


def _second_reading(text: str) -> tuple[str, re.Pattern[str], str]:
    read, flags = letters.substituted(text)
    return read, _WORD, flags


def _automaton(terms: Iterable[tuple[Spelling, Any]]) -> Any:
    """None where there is nothing to search."""
    found: dict[str, list[tuple[Spelling, Any]]] = {}
    for term, value in terms:
        for ending in _ENDINGS if term.spaced else ("",):
            if term.solid:
                whole = replace(term, solid=term.solid + ending)
                found.setdefault(whole.solid, []).append((whole, value))
    if not found:
        return None
    automaton = ahocorasick.Automaton()
    for solid, entries in found.items():
        automaton.add_word(solid, entries)
    automaton.make_automaton()
    return automaton


@cache
def _common_words() -> frozenset[str]:
    """As they are, and as the second reading has them."""
    lines = _COMMON.read_text("utf-8").splitlines()
    words = {word for line in lines if not line.startswith("#") for word in line.split()}
    return frozenset(words | set(map(letters.one_of_i_and_l, words)))
