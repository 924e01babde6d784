"""Divides a side into overlapping spans whose weights add up to one everywhere, so that tiles join without a seam."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Span:
    """`start` to `stop` (exclusive) in pixels; `weights`: float32, one for each pixel, 0 to 1."""

    start: int
    stop: int
    weights: np.ndarray


def spans(side: int, tile: int, overlap: int, multiple: int = 1) -> list[Span]:
    """The fewest spans of at most `tile` pixels that cover the side with overlaps of `overlap` pixels or more. All have
    one length, the shortest possible multiple of `multiple`; a side of at most `tile` is one span.

    The outer quarter of each overlap has weight 0: the network has too little context there. The middle half is a
    linear ramp from one span to the next. Raises ValueError unless 0 <= overlap <= tile / 2.
    """
    if not 0 <= overlap <= tile // 2:
        raise ValueError(f"An overlap of {overlap} pixels does not fit tiles of {tile}; it must be 0 to {tile // 2}.")
    if side <= tile:
        return [Span(0, side, np.ones(side, np.float32))]
    count = -(-(side - overlap) // (tile - overlap))
    tile = min(tile, -(-(side + (count - 1) * overlap) // (count * multiple)) * multiple)
    starts = [round(index * (side - tile) / (count - 1)) for index in range(count)]
    raw = []
    total = np.zeros(side, np.float32)
    for index, start in enumerate(starts):
        weights = np.ones(tile, np.float32)
        if index > 0:
            shared = starts[index - 1] + tile - start
            weights[:shared] *= _ramp(shared)
        if index < count - 1:
            shared = start + tile - starts[index + 1]
            weights[tile - shared :] *= 1.0 - _ramp(shared)
        raw.append(weights)
        total[start : start + tile] += weights
    # Where three spans meet (short sides) the ramps add up to more than one.
    ends = [start + tile for start in starts]
    return [Span(a, b, weights / total[a:b]) for a, b, weights in zip(starts, ends, raw, strict=True)]


def _ramp(length: int) -> np.ndarray:
    """Rising from 0 to 1 over the middle half of `length` pixels (float32)."""
    margin = length // 4
    centers = np.arange(length, dtype=np.float32) + 0.5 - margin
    return np.clip(centers / max(length - 2 * margin, 1), 0.0, 1.0)
