"""Defaults that settings.py shares with code that reads no settings, so that each stands once.

Plain Python, the lowest layer. settings.py reads the environment with these defaults, and entry points pass the values
on. The configuration classes of the layers above (EngineConfig, WorkerQueueConfig, LoopConfig and so on) have the same
defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

# What keys and OAuth applications may be bound to, each with what people read.
SCOPES: Mapping[str, str] = {
    "generate": "Make, cancel and repeat tasks.",
    "read": "See tasks, pictures and usage.",
    "sort": "Approve and reject pictures, and put them on boards.",
    "delete": "Delete tasks.",
    "lora": "Upload and change LoRAs.",
    "webhooks": "Change webhook endpoints and send deliveries again.",
    "keys": "Make, rotate and revoke API keys.",
    "team": "Change the roles of the team's members.",
}


def _batch_limits() -> Mapping[int, int]:
    return MappingProxyType({512: 16, 1024: 8, 2048: 2})


@dataclass(frozen=True)
class QueueConfig:
    """How GPU workers share out what waits."""

    shares: tuple[int, ...] = (5, 3, 1, 1)  # of the work of P0 to P3 when all are full
    window_ms: int = 50  # that a task waits for others of its batch key
    min_batch: int = 4  # so many of one batch key end the window at once
    lease_ms: int = 1000  # after which a worker that does not renew its lease counts as dead


@dataclass(frozen=True)
class GpuConfig:
    """A GPU worker: memory, batches, and how it ends."""

    device: str = "auto"  # first GPU, else CPU
    idle_unload_s: float = 300.0  # until an unused model leaves the memory
    paused_gb: float = 2.0  # that paused samples may hold
    step_max_s: float = 0.4  # a pass that takes longer must make rows cheaper: P0 waits for the pass that runs
    row_buckets: tuple[int, ...] = ()  # rows that a batch may have, ascending; empty: any
    batch_limits: Mapping[int, int] = field(default_factory=_batch_limits)  # by the longer side in pixels
    stop_s: float = 10.0  # that a stopping worker may still spend on its tasks
    hang_s: float = 30.0  # without a finished step, after which the watchdog kills it

    @property
    def paused_bytes(self) -> int:
        """`paused_gb` in bytes."""
        return int(self.paused_gb * 2**30)


@dataclass(frozen=True)
class SurgeConfig:
    """`lower_s`, `refuse_s`: seconds of waiting work. `lowered_side`: longest side of a lowered picture, in pixels."""

    lower_s: float = 60.0
    refuse_s: float = 240.0
    lowered_side: int = 512
    longest_retry_s: int = 600


@dataclass(frozen=True)
class SpoolConfig:
    """Bounds of the spool; `down_seconds`: how long after a failure pictures go to the spool without trying the
    store.
    """

    root: Path
    max_bytes: int = 20 << 30
    max_files: int = 100_000
    down_seconds: float = 10.0
