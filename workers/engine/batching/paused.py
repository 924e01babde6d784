"""The memory of paused samples: how much of it there is, who may add to it, who must leave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from generation.queue.values import BatchKey
from workers.engine.batching import scheduler
from workers.engine.batching.hosted import HostedSample
from workers.engine.metrics import PAUSED
from workers.engine.requests import SampleRequest


class PausedWork:
    """Used by the engine. What a sample holds is measured when a forward pass goes by without it; from then on the
    size of another one of its batch key is known."""

    def __init__(self, limit: int) -> None:
        """`limit` in bytes."""
        self._limit = limit
        self._held = 0
        self._size: dict[BatchKey, int] = {}  # of one sample, by batch key

    def passed_over(self, samples: Iterable[HostedSample]) -> None:
        """The forward pass that comes next goes by without these."""
        for sample in samples:
            sample.pause()
            self._size[sample.request.batch_key] = sample.held_bytes

    def count(self, board: Iterable[HostedSample]) -> None:
        """Adds up what the paused ones on board hold."""
        self._held = sum(sample.held_bytes for sample in board)
        PAUSED.set(self._held)

    def full(self, aboard: Sequence[SampleRequest]) -> bool:
        """Whether P0 is on board and no more may be paused for it."""
        return self._held >= self._limit and _p0_in(aboard)

    def room(
        self, batch_key: BatchKey, aboard: Sequence[SampleRequest], boarding: Sequence[SampleRequest]
    ) -> int | None:
        """How many more samples of a key might be paused; None: nobody would be, or it is not known what they hold.
        Those `boarding` are not measured yet."""
        if not _p0_in(aboard):
            return None
        size = self._size.get(batch_key)
        if not size:
            return 0 if self.full(aboard) else None
        coming = size * sum(request.priority != scheduler.URGENT for request in boarding)
        return max(0, self._limit - self._held - coming) // size

    def surplus(self, board: Iterable[HostedSample]) -> list[str]:
        """Ids of the tasks that must go back to the queue."""
        if self._held <= self._limit:
            return []
        tasks: dict[str, list[HostedSample]] = {}
        for sample in board:
            if sample.held_bytes:
                tasks.setdefault(sample.request.task_id, []).append(sample)
        return scheduler.surplus([_as_paused(samples) for samples in tasks.values()], self._limit)


def _p0_in(aboard: Sequence[SampleRequest]) -> bool:
    return any(request.priority == scheduler.URGENT for request in aboard)


def _as_paused(samples: Sequence[HostedSample]) -> scheduler.PausedTask:
    first = samples[0].request
    held = sum(sample.held_bytes for sample in samples)
    return scheduler.PausedTask(first.task_id, first.priority, first.arrived, held, first.returned)
