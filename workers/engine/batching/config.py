"""Settings of the engine, filled by the entry point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from imagegenx_site.config import GpuConfig
from workers.engine.batching.scheduler import Policy


@dataclass(frozen=True)
class EngineConfig:
    """`threads`: CPU threads of one forward pass. `decoders`: pictures that are decoded at once beside the steps, a
    thread each; 0: the engine's thread decodes. `batch_limits`: samples per batch by the longer side in pixels.
    `step_max_s`: decoders that come after a step take about so long at most, in s.
    `capacity`: active samples at once, running or paused. `paused_bytes`: what paused samples may hold in memory.
    `policy`: see scheduler.py.
    """

    threads: int = 1
    decoders: int = 0
    step_max_s: float = GpuConfig.step_max_s
    capacity: int = 64
    paused_bytes: int = GpuConfig().paused_bytes
    batch_limits: Mapping[int, int] = field(default_factory=lambda: GpuConfig().batch_limits)
    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"EngineConfig.threads is {self.threads}; it must be 1 or more")
        if self.decoders < 0:
            raise ValueError(f"EngineConfig.decoders is {self.decoders}; it must be 0 or more")
        if self.capacity < 1:
            raise ValueError(f"EngineConfig.capacity is {self.capacity}; it must be 1 or more")
        if self.paused_bytes < 0:
            raise ValueError(f"EngineConfig.paused_bytes is {self.paused_bytes}; it must be 0 or more")
        if not self.batch_limits or min(self.batch_limits.values()) < 1:
            raise ValueError("EngineConfig.batch_limits must name at least one size, each with a limit of 1 or more")
