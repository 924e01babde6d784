"""Every repair with its period, in the order in which they run. What each finds: workers/recovery/__init__.py."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from redis import Redis

from generation.queue.worker import WorkerQueue, WorkerQueueConfig
from generation.tasks.open_tasks import RecentDays
from workers.recovery import cancels, expiry, leases, lost_workers, revoked
from workers.recovery.audit import Audit, AuditConfig
from workers.recovery.cancels import CancelsConfig
from workers.recovery.processes import Processes
from workers.recovery.redis_epoch import RedisEpoch, RedisEpochConfig
from workers.recovery.stages import StageMessages, StageMessagesConfig


@dataclass(frozen=True)
class RecoveryConfig:
    """What each repair may be given."""

    redis_epoch: RedisEpochConfig = field(default_factory=RedisEpochConfig)
    cancels: CancelsConfig = field(default_factory=CancelsConfig)
    stages: StageMessagesConfig = field(default_factory=StageMessagesConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)


@dataclass(frozen=True)
class Repair:
    """`period`: s from the end of one run to the next; `idle_period`: the same while no task is open."""

    name: str
    period: float
    idle_period: float
    run: Callable[[], None]


def repairs(redis: Redis, config: RecoveryConfig) -> tuple[Repair, ...]:
    """`redis`: a client that decodes to text."""
    queue = WorkerQueue(redis, WorkerQueueConfig(worker="reconciler", own_queue=""))
    stages = StageMessages(config.stages)
    return (
        Repair("lost_workers", 0.1, 1.0, partial(lost_workers.run, redis)),
        Repair("revoked", 0.2, 1.0, partial(revoked.run, redis)),
        Repair("leases", 0.5, 2.0, partial(leases.run, queue)),
        Repair("redis_epoch", 0.5, 2.0, RedisEpoch(redis, config.redis_epoch, rebuilt=stages.forget).run),
        Repair("processes", 1.0, 2.0, Processes().run),
        Repair("expiry", 1.0, 5.0, partial(expiry.run, RecentDays())),
        Repair("cancels", 1.0, 5.0, partial(cancels.run, config.cancels, RecentDays())),
        Repair("stages", 1.0, 5.0, stages.run),
        Repair("audit", 1.0, 5.0, Audit(redis, queue, config.audit).run),
    )
