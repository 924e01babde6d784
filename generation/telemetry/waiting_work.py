"""What waits for GPU workers, by model and by pool: the numbers by which pools are scaled."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from django.db.models import Count, Min

from generation.queue.classes import CLASSES
from generation.tasks.models import Status, Task
from imagegenx_site.pools import PoolState

_ALL_MODELS: Final = "gpu-worker"  # the pool of workers without GPU_MODELS


@dataclass(frozen=True)
class Work:
    """Waiting tasks of one model and class; `oldest` in s."""

    model: str
    priority: int
    tasks: int
    oldest: float


def by_model() -> list[Work]:
    """From the rows: one query."""
    rows = Task.objects.filter(status=Status.QUEUED).order_by().values_list("model_key", "priority")
    now = datetime.now(UTC)
    return [
        Work(model, priority, tasks, max(0.0, (now - since).total_seconds()))
        for model, priority, tasks, since in rows.annotate(Count("pk"), Min("created_at"))
    ]


def by_pool(work: Iterable[Work], pools: Sequence[PoolState]) -> dict[tuple[str, int], tuple[int, float]]:
    """(pool, class) -> (tasks, s of the oldest), zeros for what has none. A pool that GPU_MODELS named takes its
    models' work, `gpu-worker` that of all other models.
    """
    gpu_pools = [pool.name for pool in pools if pool.name.split("/")[0] == _ALL_MODELS] or [_ALL_MODELS]
    found = {(pool, priority): (0, 0.0) for pool in gpu_pools for priority in CLASSES}
    for one in work:
        pool = _pool_of(one.model.partition("@")[0], gpu_pools)
        tasks, oldest = found.get((pool, one.priority), (0, 0.0))
        found[pool, one.priority] = (tasks + one.tasks, max(oldest, one.oldest))
    return found


def _pool_of(name: str, pools: Sequence[str]) -> str:
    return next((pool for pool in pools if name in pool.partition("/")[2].split("+")), _ALL_MODELS)
