"""Weights in prompts: `(word:1.3)`, `(word)` for 1.1, `[word]` for 1/1.1; nested ones multiply; `\\(` is a bracket.

A weight lies from -10 to 10 at every level of brackets: what is written beyond that counts as the bound. Beyond 2 a
picture falls apart, so the bound only keeps the arithmetic of every precision finite. Reading takes time in
proportion to the length, whatever stands in the prompt.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

STEP: Final = 1.1  # what one pair of plain brackets does
LARGEST: Final = 10.0  # weights lie from -LARGEST to LARGEST
_DEEPEST: Final = 200  # square brackets inside each other that count: the weight is below 1e-8 then
# Every quantifier is possessive: nothing that was read is tried again in another way.
_MARKS: Final = re.compile(r"\\[()\[\]\\]|:\s*+([+-]?+(?:\d++(?:\.\d*+)?+|\.\d++))\s*+\)|[()\[\]]")


@dataclass(frozen=True)
class Piece:
    """A stretch of the prompt and the weight of its tokens."""

    text: str
    weight: float


@dataclass
class _Sign:
    """A stretch of text or a bracket, in the order of the prompt. `factor`: of an opening round bracket, once the
    closing one is known. `kind`: "text" or the bracket."""

    kind: str
    text: str = ""
    factor: float = STEP


@functools.lru_cache(256)
def parse(prompt: str) -> tuple[Piece, ...]:
    """The prompt in pieces of one weight. Brackets that are never closed weigh everything up to the end, as users of
    other programs know them; a closing one without an opening is text. Recent prompts are remembered, so that the
    thread which prepares a task reads its prompt for the engine's."""
    return tuple(_joined(_weighted(_signs(prompt))))


def is_plain(pieces: Sequence[Piece]) -> bool:
    """Whether nothing is weighted: the one piece is text as any encoder reads it."""
    return len(pieces) <= 1 and all(piece.weight == 1.0 for piece in pieces)


def _signs(prompt: str) -> list[_Sign]:
    """Text and brackets; a closing bracket that has no opening one is text."""
    signs: list[_Sign] = []
    round_open: list[_Sign] = []
    squares_open = position = 0
    for mark in _MARKS.finditer(prompt):
        signs.append(_Sign("text", prompt[position : mark.start()]))
        position, written = mark.end(), mark.group()
        sign = _Sign("text", written)
        if written.startswith("\\"):
            sign.text = written[1]
        elif written == "(":
            sign.kind = "("
            round_open.append(sign)
        elif written.endswith(")") and round_open:
            sign.kind = ")"
            round_open.pop().factor = _clamped(float(mark.group(1))) if mark.group(1) else STEP
        elif written == "[" or (written == "]" and squares_open):
            sign.kind = written
            squares_open += 1 if written == "[" else -1
        signs.append(sign)
    return [*signs, _Sign("text", prompt[position:])]


def _weighted(signs: Iterable[_Sign]) -> Iterator[Piece]:
    """Round brackets and square ones may cross each other, so each sort has its own depth."""
    round_weights, squares = [1.0], 0
    for sign in signs:
        match sign.kind:
            case "(":
                round_weights.append(_clamped(round_weights[-1] * sign.factor))
            case ")":
                round_weights.pop()
            case "[":
                squares += 1
            case "]":
                squares -= 1
            case _ if sign.text:
                yield Piece(sign.text, round_weights[-1] / STEP ** min(squares, _DEEPEST))


def _clamped(weight: float) -> float:
    return min(max(weight, -LARGEST), LARGEST)


def _joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Neighbours of one weight as one piece, so that words are cut into tokens as in the whole text."""
    for weight, same in groupby(pieces, key=lambda piece: piece.weight):
        yield Piece("".join(piece.text for piece in same), weight)
