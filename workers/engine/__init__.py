"""The engine of the GPU side: samples of different requests share the forward passes of their models.

    pool = ModelPool(PoolConfig(device="auto"))
    pool.ensure(ModelSpec(name="mini", revision="1", family="sd15", source="..."))
    pool.preload(["mini@1"])                     # optional: models load on demand, beside the running batch
    engine = Engine(pool, EngineConfig(threads=2))

    while not stopping:                          # one thread owns the engine
        for request in take(engine.room("mini@1", 256, 256, priority=2)):
            engine.admit(request)                # a SampleRequest: one image
        for event in engine.step():              # one shared forward pass
            ...                                  # Progress, then one of Finished, Failed, Cancelled per sample

`room`: how many more samples of that model, size and priority would be admitted now. `admit` takes one. `cancel` ends
one at the next step boundary (its Cancelled comes with the next step; unknown ids are ignored). `step` never raises for
one sample's fault. `running` lists the active requests, those waiting for their model and those waiting for the picture
of an identical sample; `idle`: there are none. `tasks_to_evict` lists tasks to requeue because paused samples hold more
than `EngineConfig.paused_bytes`.
`warm_key`: the BatchKey being served (generation/queue/values.py) or None. `discard_all` drops all samples without
events.

When nothing runs, `step` returns at once with no events; while a model is loading or a remote one computes it also
returns at once, so wait a little (some ms) after a step without events. Call `pool.unload_idle()` every second or so.

Exports are loaded at first use: importing this package alone does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.engine.batching.config import EngineConfig
    from workers.engine.batching.engine import Engine
    from workers.engine.errors import EngineError, InvalidSample, ModelUnavailable
    from workers.engine.models.pool import ModelPool, PoolConfig
    from workers.engine.requests import (
        Cancelled,
        Event,
        Failed,
        Finished,
        LoraUse,
        Progress,
        SampleId,
        SampleRequest,
        TaskBatch,
    )
    from workers.engine.spec import ModelSpec

__all__ = [
    "Engine",
    "EngineConfig",
    "SampleRequest",
    "SampleId",
    "LoraUse",
    "TaskBatch",
    "Event",
    "Progress",
    "Finished",
    "Failed",
    "Cancelled",
    "EngineError",
    "InvalidSample",
    "ModelUnavailable",
    "ModelPool",
    "PoolConfig",
    "ModelSpec",
]

_REQUESTS = (
    "SampleRequest",
    "SampleId",
    "LoraUse",
    "TaskBatch",
    "Event",
    "Progress",
    "Finished",
    "Failed",
    "Cancelled",
)
_HOMES = {
    "Engine": "workers.engine.batching.engine",
    "EngineConfig": "workers.engine.batching.config",
    **dict.fromkeys(_REQUESTS, "workers.engine.requests"),
    **dict.fromkeys(("EngineError", "InvalidSample", "ModelUnavailable"), "workers.engine.errors"),
    **dict.fromkeys(("ModelPool", "PoolConfig"), "workers.engine.models.pool"),
    "ModelSpec": "workers.engine.spec",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
