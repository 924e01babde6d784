"""Which samples share the next forward pass, and how many more may be admitted. Pure: no torch, no clock.

The rules, in this order:
1. While a P0 sample is there, the key of the oldest P0 is served, at most `urgent_cap` samples at a time (more only
   if all of them are P0). All others are paused: they are not chosen.
2. Otherwise the key of the oldest sample is served, the oldest samples first.
3. Nobody starves: a sample passed over `patience` times in a row has its key served next, itself first.
4. Of a batch request with a limit, only so many tasks take part, the oldest first; its others wait for them to end.
5. The rows of a forward pass never exceed the limit of their size (limits.py), rounded down to a bucket where there
   are some (shapes a compiled model knows); what does not fit waits one step. One sample always runs, however
   many rows it has.
6. What the paused samples hold in memory is bounded: beyond it whole tasks are requeued.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from workers.engine.requests import SampleId, TaskBatch

URGENT = 0


@dataclass(frozen=True)
class Policy:
    """Settings of the rules above. `row_buckets` is ascending; empty means that every row count is as good."""

    urgent_cap: int = 1  # with 2, P0 took 1.6 times as long on a CPU, and nobody gained
    patience: int = 64
    row_buckets: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        buckets = self.row_buckets
        if any(bucket < 1 for bucket in buckets) or list(buckets) != sorted(set(buckets)):
            raise ValueError(f"Policy.row_buckets is {buckets}; it must be ascending numbers of 1 or more")


@dataclass(frozen=True)
class Candidate:
    """A sample waiting for its next forward pass, as the policy sees it.

    `key` says with whom it may share, `rows` how many rows it brings (2 with guidance), `passed_over` how many
    forward passes it has seen go by without it since its last one. `batch`: the limit of its batch request.
    """

    sample_id: SampleId
    key: Hashable
    rows: int
    priority: int
    arrived: float
    passed_over: int = 0
    batch: TaskBatch | None = None

    @property
    def age_order(self) -> tuple[float, SampleId]:
        return (self.arrived, self.sample_id)


def choose(candidates: Sequence[Candidate], row_limit: Callable[[Candidate], int], policy: Policy) -> list[Candidate]:
    """The members of the next forward pass, all of one key; empty only without candidates."""
    if not candidates:
        return []
    candidates = _within_batch_limits(candidates)
    urgent = [sample for sample in candidates if sample.priority == URGENT]
    starving = [sample for sample in candidates if sample.passed_over >= policy.patience]
    if starving:
        leader = max(starving, key=lambda sample: sample.passed_over)
    else:
        leader = min(urgent or candidates, key=lambda sample: sample.age_order)
    queue = sorted(
        (sample for sample in candidates if sample.key == leader.key),
        key=lambda sample: (sample is not leader, sample.priority != URGENT, *sample.age_order),
    )
    if urgent:
        in_queue = sum(sample.priority == URGENT for sample in queue)
        queue = queue[: max(policy.urgent_cap, in_queue)]
    return _fit(queue, row_limit(leader), policy.row_buckets)


def _within_batch_limits(candidates: Sequence[Candidate]) -> list[Candidate]:
    """All but those whose batch request has as many older tasks among them as it may have in one forward pass."""
    taking_part: dict[str, set[str]] = {}
    kept = []
    for sample in sorted(candidates, key=lambda sample: sample.age_order):
        if sample.batch is not None:
            tasks = taking_part.setdefault(sample.batch.id, set())
            if sample.sample_id.task_id not in tasks and len(tasks) >= sample.batch.limit:
                continue
            tasks.add(sample.sample_id.task_id)
        kept.append(sample)
    return kept


def _fit(queue: Sequence[Candidate], limit: int, buckets: Sequence[int]) -> list[Candidate]:
    """The longest beginning of the queue whose rows are within the limit and make a bucket; at least one sample."""
    sizes: list[int] = []
    total = 0
    for sample in queue:
        total += sample.rows
        if sizes and total > limit:
            break
        sizes.append(total)
    if buckets:
        target = max((bucket for bucket in buckets if bucket <= sizes[-1]), default=0)
        while len(sizes) > 1 and sizes[-1] > target:
            sizes.pop()
    return list(queue[: len(sizes)])


def room(
    *,
    same_key: int,
    same_key_urgent: int,
    admitted: int,
    limit: int,
    capacity: int,
    priority: int,
    may_pause: int | None = None,
) -> int:
    """Limits how many samples may be admitted. Answers how many more of one batch key.

    A key gets as many samples as one batch holds; P0 does not count those it will pause. `capacity` bounds the samples
    `admitted`, of all keys; P0 may go over it by one batch. `may_pause`: beside P0 others are paused at once,
    and so many more fit into the memory for paused work (None: no bound is known).
    """
    if priority == URGENT:
        return max(0, min(limit - same_key_urgent, capacity + limit - admitted))
    free = min(limit - same_key, capacity - admitted)
    return max(0, free if may_pause is None else min(free, may_pause))


@dataclass(frozen=True)
class PausedTask:
    """What a task with paused samples holds in memory. `returned`: how often it was requeued because of that."""

    task_id: str
    priority: int
    arrived: float
    held_bytes: int
    returned: int = 0


def tasks_to_evict(paused: Sequence[PausedTask], limit: int) -> list[str]:
    """The tasks to requeue, so that what the others hold is within `limit` bytes.

    Those that were never requeued because of that leave first, then the lowest class, then the youngest. P0 stays, and
    so does the last of the others whatever it holds: else a task larger than the limit, or one that P0 keeps
    interrupting, would never end.
    """
    held = sum(task.held_bytes for task in paused)
    leaving = []
    candidates = [task for task in paused if task.priority != URGENT]
    candidates.sort(key=lambda task: (task.returned, -task.priority, -task.arrived, task.task_id))
    for task in candidates[:-1]:
        if held <= limit:
            break
        held -= task.held_bytes
        leaving.append(task.task_id)
    return leaving
