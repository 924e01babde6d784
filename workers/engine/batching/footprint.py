"""How much memory a suspended sample holds: its latents, embeddings, residuals, pictures, the state of its scheduler.

All of it is referenced by the frames of its suspended pipeline, which are searched. Weights are not counted: they
belong to the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from greenlet import greenlet

    from workers.engine.requests import SampleRequest


def bytes_held(request: SampleRequest, suspended: greenlet) -> int:
    """Bytes of every tensor and picture that goes with the sample, each counted once. Takes some 0.3 ms."""
    blocks = {address: size for value in _held(request, suspended) for address, size in _blocks(value)}
    return sum(blocks.values())


def _held(request: SampleRequest, suspended: greenlet) -> Iterator[Any]:
    yield [request.image, request.mask, request.control_image]
    frame = suspended.gr_frame
    while frame is not None:
        for value in _locals(frame):
            yield value
            if hasattr(value, "scheduler"):  # the pipeline; its copy of the scheduler is the sample's own
                yield vars(value.scheduler)
        frame = frame.f_back


def _locals(frame: FrameType) -> list[Any]:
    snapshot = frame.f_locals
    values = list(snapshot.values())
    if isinstance(snapshot, dict):
        snapshot.clear()  # before Python 3.13 the frame keeps it, and so what the pipeline lets go of meanwhile
    return values


def _blocks(value: Any) -> Iterator[tuple[int, int]]:
    """Address and bytes of each piece of memory in a value."""
    if isinstance(value, torch.nn.Parameter):
        return
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        yield storage.data_ptr(), storage.nbytes()
    elif isinstance(value, np.ndarray):
        yield value.__array_interface__["data"][0], value.nbytes
    elif isinstance(value, dict):
        for one in value.values():
            yield from _blocks(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _blocks(one)
