"""Values that the queue, the rows and the engine share. Imports nothing of ours, Django or torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True)
class BatchKey:
    """What may share a forward pass: the same model ("name@revision") at the same size. With `alone`, a task's id, it
    belongs to that task only.

    Its text, "mini@1:256x256" or "mini@1:256x256#0198...", stands in rows and names sorted sets in Redis; there
    layout.lua reads it.
    """

    model: str
    width: int
    height: int
    alone: str = ""

    def __str__(self) -> str:
        shared = f"{self.model}:{self.width}x{self.height}"
        return f"{shared}#{self.alone}" if self.alone else shared

    @classmethod
    def parse(cls, text: str) -> BatchKey:
        """Raises ValueError for anything but the text of a key."""
        shared, _, alone = text.partition("#")
        model, _, size = shared.rpartition(":")
        width, _, height = size.partition("x")
        return cls(model, int(width), int(height), alone)


class EntryState(StrEnum):
    """What a task's entry in Redis is at (field `st`). layout.lua gives the same names to the same letters."""

    WAITING = "w"
    RUNNING = "r"
    ENDED = "x"


class Release(StrEnum):
    """What becomes of a claimed task's entry when its worker releases it. settle.lua knows the same words."""

    ENDED = "ended"  # it does not run again under this key
    MOVED = "moved"  # ended here; its row, now of another model, is to be enqueued anew
    WAITING = "waiting"  # it runs again, before all that waits
    ALONE = "alone"  # the same, and from then on alone
    TAKEN_OVER = "taken_over"  # another worker has it: nothing changes

    @property
    def runs_again(self) -> bool:
        """Under the same ticket."""
        return self in (Release.WAITING, Release.ALONE)


class Withdrawal(StrEnum):
    """What cancelling found in the queues: cancel.lua answers these words."""

    REMOVED = "removed"  # it waited
    SIGNALLED = "signalled"  # it runs; its worker sees it at the next step
    ABSENT = "absent"


_SIDE = 256  # pixels; with the exact size a client could make a new time series with each request


def size_class(width: int, height: int) -> str:
    """The longer side in pixels, rounded up to a multiple of 256: the label `size` of metrics."""
    return str(_SIDE * -(-max(width, height) // _SIDE))
