"""A simulated GPU worker: what its engine would choose and how much room it would have."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from generation.queue.values import BatchKey
from generation.queue.worker import Claimed, WorkerQueue
from workers.engine.batching import scheduler
from workers.engine.batching.config import EngineConfig
from workers.engine.requests import SampleId
from workers.gpu.intake import URGENT
from workers.simulation.scenario import Sample

CAPACITY = EngineConfig.capacity  # samples in a device's engine, running or paused
POLICY = scheduler.Policy()


@dataclass
class Device:
    """One GPU worker. `claimed` samples run from the first step boundary after `admitted_at` on."""

    queue: WorkerQueue
    batch: int
    running: dict[str, tuple[Claimed, Sample]] = field(default_factory=dict)
    claimed: list[tuple[Claimed, Sample]] = field(default_factory=list)
    admitted_at: float = 0.0
    not_before: float = 0.0  # it waits for others of its batch key until then
    worked: float = -math.inf  # end of the last step
    warm: BatchKey | None = None
    busy: float = 0.0
    steps: int = 0
    rows: int = 0

    def room(self, key: BatchKey, priority: int) -> int:
        """Samples of that key that may still come."""
        same = [sample for _, sample in self.running.values() if sample.key == key]
        urgent = sum(sample.kind.priority == URGENT for sample in same)
        return scheduler.room(
            same_key=len(same), same_key_urgent=urgent, admitted=len(self.running), limit=self.batch,
            capacity=CAPACITY, priority=priority,
        )  # fmt: skip

    def members(self) -> list[str]:
        """Who shares the next step; the others are passed over."""
        parked = [
            scheduler.Candidate(
                SampleId(task_id, 0), sample.key, 1, sample.kind.priority, sample.arrived, sample.passed_over
            )
            for task_id, (_, sample) in self.running.items()
        ]
        chosen = [one.sample_id.task_id for one in scheduler.choose(parked, lambda _: self.batch, POLICY)]
        for task_id, (_, sample) in self.running.items():
            sample.passed_over = 0 if task_id in chosen else sample.passed_over + 1
        return chosen
