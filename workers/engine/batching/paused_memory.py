"""The memory of paused samples: how much there is, how much may be added, which tasks must be evicted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from generation.queue.values import BatchKey
from workers.engine.batching import scheduler
from workers.engine.batching.pipeline_greenlet import PipelineGreenlet
from workers.engine.metrics import PAUSED
from workers.engine.requests import SampleRequest


class PausedMemory:
    """Used by the engine. What a sample holds is measured when a forward pass goes by without it; from then on the
    size of another one of its batch key is known."""

    def __init__(self, limit: int) -> None:
        """`limit` in bytes."""
        self._limit = limit
        self._held = 0
        self._size: dict[BatchKey, int] = {}  # of one sample, by batch key

    def pass_over(self, samples: Iterable[PipelineGreenlet]) -> None:
        """The forward pass that comes next goes by without these."""
        for sample in samples:
            sample.pause()
            self._size[sample.request.batch_key] = sample.held_bytes

    def count(self, active: Iterable[PipelineGreenlet]) -> None:
        """Adds up what the paused ones hold."""
        self._held = sum(sample.held_bytes for sample in active)
        PAUSED.set(self._held)

    def full(self, admitted: Sequence[SampleRequest]) -> bool:
        """Whether P0 is there and no more may be paused for it."""
        return self._held >= self._limit and _p0_in(admitted)

    def room(
        self, batch_key: BatchKey, admitted: Sequence[SampleRequest], waiting: Sequence[SampleRequest]
    ) -> int | None:
        """How many more samples of a key might be paused; None: none would be, or it is not known what they hold.
        Those `waiting` for their model are not measured yet."""
        if not _p0_in(admitted):
            return None
        size = self._size.get(batch_key)
        if not size:
            return 0 if self.full(admitted) else None
        coming = size * sum(request.priority != scheduler.URGENT for request in waiting)
        return max(0, self._limit - self._held - coming) // size

    def tasks_to_evict(self, active: Iterable[PipelineGreenlet]) -> list[str]:
        """Ids of the tasks that must be requeued."""
        if self._held <= self._limit:
            return []
        tasks: dict[str, list[PipelineGreenlet]] = {}
        for sample in active:
            if sample.held_bytes:
                tasks.setdefault(sample.request.task_id, []).append(sample)
        return scheduler.tasks_to_evict([_as_paused(samples) for samples in tasks.values()], self._limit)


def _p0_in(admitted: Sequence[SampleRequest]) -> bool:
    return any(request.priority == scheduler.URGENT for request in admitted)


def _as_paused(samples: Sequence[PipelineGreenlet]) -> scheduler.PausedTask:
    first = samples[0].request
    held = sum(sample.held_bytes for sample in samples)
    return scheduler.PausedTask(first.task_id, first.priority, first.arrived, held, first.returned)
