"""A task on board of a GPU worker, from the claim to the moment its pictures are safe or it is given up. Plain data."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from generation.queue.buffer import Claimed, Outcome
from workers.engine.requests import SampleId, SampleRequest

if TYPE_CHECKING:
    import numpy as np

    from generation.tasks.models import Task
    from workers.engine.spec import ModelSpec

Ending = Literal["", "cancelled", "lost", "failed", "returned"]


@dataclass(frozen=True)
class Settlement:
    """What a task's buffer entry becomes, and whether its row is to be enqueued anew afterwards (under another key)."""

    outcome: Outcome
    enqueue_again: bool = False


@dataclass
class HeldTask:
    """One claimed task. Only the engine thread touches it; what goes to other threads are its finished values.

    `ending` is set when the task will not be finished here; its samples leave the engine first, then it is settled.
    `leaving` is set once a side thread brings it to its end: nothing more is asked about it at ticks but its fence.
    """

    claimed: Claimed
    task: Task
    spec: ModelSpec
    samples: tuple[SampleRequest, ...]
    to_admit: deque[SampleRequest] = field(default_factory=deque)
    on_board: set[SampleId] = field(default_factory=set)
    done: dict[SampleId, float] = field(default_factory=dict)  # sample -> finished part of its steps, 0 to 1
    images: dict[int, np.ndarray] = field(default_factory=dict)  # float32 [H, W, 3] RGB in 0..1
    warnings: list[str] = field(default_factory=list)
    ending: Ending = ""
    error: Exception | None = None
    retryable: bool = False
    leaving: bool = False
    reused: frozenset[int] = field(init=False)  # pictures that an identical request has left

    def __post_init__(self) -> None:
        """Samples whose picture is there already need not be admitted."""
        self.reused = frozenset(self.images)
        self.done |= {self.samples[index].sample_id: 1.0 for index in self.images}
        self.to_admit.extend(sample for index, sample in enumerate(self.samples) if index not in self.images)

    @property
    def id(self) -> str:
        return self.claimed.task_id

    @property
    def complete(self) -> bool:
        """Every picture is there."""
        return len(self.images) == len(self.samples)

    @property
    def off_board(self) -> bool:
        """Nothing of it is in the engine any more, or was ever."""
        return not self.on_board

    @property
    def steps(self) -> tuple[int, int]:
        """(finished, all) steps of its samples together."""
        total = sum(sample.steps for sample in self.samples)
        return round(sum(self.done.get(sample.sample_id, 0.0) * sample.steps for sample in self.samples)), total

    @property
    def percent(self) -> int:
        """0 to 99 while it runs: 100 is said by the row when the pictures are safe."""
        parts = sum(self.done.get(sample.sample_id, 0.0) for sample in self.samples)
        return min(99, int(100 * parts / len(self.samples)))

    def give_up(self, ending: Ending) -> None:
        """It will not be finished here; what has not boarded stays out."""
        self.ending = self.ending or ending
        self.to_admit.clear()
