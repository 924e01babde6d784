"""What the GPU worker asks of an engine and of a model pool; workers/engine/__init__.py describes the real ones."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from generation.queue.values import BatchKey
from workers.engine.requests import Event, SampleId, SampleRequest
from workers.engine.spec import ModelSpec


class Room(Protocol):
    """For how much more an engine has room."""

    warm_key: BatchKey | None

    @property
    def paused_memory_full(self) -> bool: ...
    def room(self, model: str, width: int, height: int, priority: int) -> int: ...


class EngineLike(Room, Protocol):
    """Samples in, events out. `wake` is called, from any thread, when there is something for `step` to go on with."""

    wake: Callable[[], None]

    @property
    def idle(self) -> bool: ...
    def tasks_to_evict(self) -> list[str]: ...
    def admit(self, request: SampleRequest) -> None: ...
    def cancel(self, sample_id: SampleId) -> None: ...
    def step(self) -> list[Event]: ...
    def discard_all(self) -> None: ...


class PoolLike(Protocol):
    """Models in memory."""

    def ensure(self, spec: ModelSpec) -> None: ...
    def loaded(self) -> Collection[str] | None: ...
    def unload_idle(self) -> list[str]: ...
    def trim(self) -> None: ...
