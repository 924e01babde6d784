"""A task that runs on a GPU worker, from its claim until its outcome is settled. Plain data."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from generation.queue.worker import Claimed
from workers.engine.requests import Finished, SampleId, SampleRequest
from workers.gpu.outcomes import End, Outcome

if TYPE_CHECKING:
    import numpy as np

    from generation.tasks.models import Task
    from workers.engine.spec import ModelSpec


@dataclass
class RunningTask:
    """Only the engine thread touches it, until it is `settling`: then it belongs to a side thread.

    `outcome` is set as soon as it is known; the task is settled when its last sample has left the engine.
    """

    claimed: Claimed
    task: Task
    spec: ModelSpec
    samples: tuple[SampleRequest, ...]
    to_admit: deque[SampleRequest] = field(default_factory=deque)
    admitted: set[SampleId] = field(default_factory=set)  # samples in the engine
    done: dict[SampleId, float] = field(default_factory=dict)  # finished part of a sample's steps, 0 to 1
    images: dict[int, np.ndarray] = field(default_factory=dict)  # float32 [H, W, 3] RGB in 0..1
    warnings: list[str] = field(default_factory=list)  # of the engine about these pictures: kept with them
    own_warnings: list[str] = field(default_factory=list)  # of this task alone: another model stood in
    outcome: Outcome | None = None
    settling: bool = False
    reused: frozenset[int] = field(init=False)  # pictures that an identical request has left

    def __post_init__(self) -> None:
        self.reused = frozenset(self.images)
        self.done |= {self.samples[index].sample_id: 1.0 for index in self.images}
        self.to_admit.extend(sample for index, sample in enumerate(self.samples) if index not in self.images)
        self._end_if_complete()

    @property
    def id(self) -> str:
        return self.claimed.task_id

    @property
    def settleable(self) -> bool:
        """Its outcome is known, nothing of it is in the engine, and nobody settles it yet."""
        return self.outcome is not None and not self.admitted and not self.settling

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

    def end(self, outcome: Outcome) -> None:
        """The first outcome counts. Samples that are not admitted yet never will be."""
        self.outcome = self.outcome or outcome
        self.to_admit.clear()

    def finish_sample(self, event: Finished) -> None:
        """A picture is there; with the last one the task is finished."""
        self.done[event.sample_id] = 1.0
        self.images[event.sample_id.index] = event.image
        self.warnings += [warning for warning in event.warnings if warning not in self.warnings]
        self._end_if_complete()

    def _end_if_complete(self) -> None:
        if len(self.images) == len(self.samples):
            self.end(Outcome(End.FINISHED))
