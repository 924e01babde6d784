"""What the engine asks of a model. A new kind of model is one class with these methods and one entry in registry.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np

from workers.engine.requests import SampleRequest

OnStep = Callable[[int, int, "np.ndarray | None"], None]
"""Called with (steps done, steps in all, preview or None) after each denoising step."""


@dataclass(frozen=True)
class Generated:
    """A picture, float32 [H, W, 3] RGB in 0..1, and sentences for the client about how it was made."""

    image: np.ndarray = field(repr=False)
    warnings: tuple[str, ...] = ()


class ModelInterface(Protocol):
    """`infer` is written as if it ran alone, from the request to the picture. Batching comes from outside: the heavy
    modules it calls are made by `workers.engine.interception.shared`, so that in the engine their calls are computed
    together with those of other samples. What is not shared runs alone.

    The engine completes what `infer` gives back (made_picture.py): it must be finite, and an inpainted one is laid
    over its input.

    `precisions`: in which it can be loaded beside "auto", where memory is short a lower one than was asked for.
    `load` may run in another thread than `infer`; it raises ModelUnavailable. `release` gives the memory back.
    """

    precisions: ClassVar[Sequence[str]]

    def load(self) -> None: ...

    def infer(self, request: SampleRequest, on_step: OnStep) -> Generated: ...

    def release(self) -> None: ...

    def memory_bytes(self) -> int: ...
