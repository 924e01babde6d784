"""Values that the queue, the rows and the engine share. Imports nothing of ours, Django or torch."""

from __future__ import annotations

from dataclasses import dataclass


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
