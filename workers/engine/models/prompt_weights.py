"""Weights in prompts: `(word:1.3)`, `(word)` for 1.1, `[word]` for 1/1.1; nested ones multiply; `\\(` is a bracket."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

STEP = 1.1  # what one pair of plain brackets does
_MARKS = re.compile(r"\\[()\[\]\\]|:\s*([+-]?\d*\.?\d+)\s*\)|[()\[\]]")


@dataclass(frozen=True)
class Piece:
    """A stretch of the prompt and the weight of its tokens."""

    text: str
    weight: float


def parse(prompt: str) -> list[Piece]:
    """The prompt in pieces of one weight. Brackets that are never closed are ordinary characters' weights up to the
    end, as users of other programs know them; a closing one without an opening is text."""
    pieces: list[Piece] = []
    round_open: list[int] = []
    square_open: list[int] = []

    def add(text: str) -> None:
        if text:
            pieces.append(Piece(text, 1.0))

    def scale(first: int, factor: float) -> None:
        pieces[first:] = [replace(piece, weight=piece.weight * factor) for piece in pieces[first:]]

    position = 0
    for mark in _MARKS.finditer(prompt):
        add(prompt[position : mark.start()])
        position = mark.end()
        sign = mark.group()
        if sign.startswith("\\"):
            add(sign[1])
        elif sign == "(":
            round_open.append(len(pieces))
        elif sign == "[":
            square_open.append(len(pieces))
        elif sign.endswith(")") and round_open:
            scale(round_open.pop(), float(mark.group(1)) if mark.group(1) else STEP)
        elif sign == "]" and square_open:
            scale(square_open.pop(), 1 / STEP)
        else:
            add(sign)
    add(prompt[position:])
    for first in (*round_open, *square_open):
        scale(first, STEP if first in round_open else 1 / STEP)
    return _joined(pieces)


def is_plain(pieces: Sequence[Piece]) -> bool:
    """Whether nothing is weighted: the one piece is text as any encoder reads it."""
    return len(pieces) <= 1 and all(piece.weight == 1.0 for piece in pieces)


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Neighbours of one weight as one piece, so that words are cut into tokens as in the whole text."""
    joined: list[Piece] = []
    for piece in pieces:
        if joined and joined[-1].weight == piece.weight:
            joined[-1] = Piece(joined[-1].text + piece.text, piece.weight)
        else:
            joined.append(piece)
    return joined
