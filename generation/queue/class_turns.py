"""Whose turn it is after the GPU: which of its queues a worker reads next, as numbers only.

Stride scheduling of the time that messages take: each queue has had so much time, divided by its class's share, and the
one that has had least is read first, at a tie the most urgent. So a class that waits seldom is read before all others,
and one that always waits gets its share of the time, not of the messages: a 4x enlargement costs its class what
hundreds of small pictures cost another. A queue that was empty when its turn came saves nothing up.

How long a message takes is known when it has ended. Until then its queue is charged the mean of those before, so that a
worker with many threads doesn't give all of them to one class at once.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from generation.queue.classes import class_of

_FIRST_GUESS_S: Final = 0.1  # of a message's time, before one has ended
_NEWEST: Final = 0.2  # the weight of the last message in the mean


class ClassTurns:
    """`shares`: of the time, of P0 to P3 while all of them wait. A queue without a class counts as P0, and comes after
    it: the clock's jobs are few, and nobody may put them off.
    """

    def __init__(self, shares: Sequence[float]) -> None:
        self._shares = shares
        self._had: dict[str, float] = {}  # queue -> seconds by its share
        self._mean: dict[str, float] = {}  # queue -> seconds of a message
        self._now = 0.0  # what the queue had that was read last
        self._order: list[str] = []

    def set_queues(self, queues: Iterable[str]) -> None:
        """Those that are read from now on."""
        self._had = {queue: self._had.get(queue, self._now) for queue in queues}

    def order(self) -> list[str]:
        """All queues; the first one of them that has a message is to be read."""
        self._order = sorted(self._had, key=lambda queue: (self._had[queue], _rank(queue)))
        return self._order

    def took(self, queue: str) -> None:
        """A message of this queue was read: those before it in the order were empty."""
        if queue not in self._order:
            return
        self._now = self._had[queue]
        for empty in self._order[: self._order.index(queue)]:
            self._had[empty] = self._now

    def begin(self, queue: str) -> float:
        """The work of a message begins; the seconds that it is charged for now."""
        expected = self._mean.get(queue, _FIRST_GUESS_S)
        self._charge(queue, expected)
        return expected

    def end(self, queue: str, charged: float, seconds: float) -> None:
        """The work of a message that was `charged` so much has ended after `seconds`."""
        self._charge(queue, seconds - charged)
        self._mean[queue] = seconds + (1 - _NEWEST) * (self._mean.get(queue, seconds) - seconds)

    def _charge(self, queue: str, seconds: float) -> None:
        if queue in self._had:
            had = self._had[queue] + seconds / self._shares[class_of(queue) or 0]
            self._had[queue] = max(had, self._now)  # no credit for what it was charged too much


def _rank(queue: str) -> float:
    priority = class_of(queue)
    return 0.5 if priority is None else priority
