"""What goes into the engine (a SampleRequest) and what comes out of it (events). Plain data: no torch here."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from generation.queue.values import BatchKey

if TYPE_CHECKING:
    import numpy as np

KINDS = ("text2img", "img2img", "inpaint", "controlnet", "controlnet_img2img", "controlnet_inpaint", "remove")


@dataclass(frozen=True, order=True)
class SampleId:
    """One picture of a task; its text is "task/index"."""

    task_id: str
    index: int

    def __str__(self) -> str:
        return f"{self.task_id}/{self.index}"

    @classmethod
    def parse(cls, text: str) -> SampleId:
        """Raises ValueError for anything but the text of an id."""
        task_id, _, index = text.rpartition("/")
        return cls(task_id, int(index))


@dataclass(frozen=True)
class LoraUse:
    """One LoRA of a sample: the SHA-256 of its file, where the file lies, and its weight (0 to 2)."""

    sha256: str
    path: str
    weight: float


_NOT_PIXELS = {"sample_id", "task_id", "priority", "alone", "arrived", "preview_every", "cacheable", "returned"}


@dataclass(frozen=True)
class SampleRequest:
    """One image: everything that decides its pixels, and whose it is.

    `image` and `control_image` are uint8 [H, W, 3] RGB; `mask` is uint8 [H, W], 255 where the picture is repainted.
    Pictures of another size than `width` x `height` are resized to it. `control_ready`: the control picture is to be
    taken as it is (True), drawn from (False), or looked at (None). `arrived` is in monotonic seconds and orders
    samples of one priority. `preview_every`: a preview with every so many steps, 0 for none.
    `deterministic` and `alone` both keep the sample out of shared forward passes: the first is the wish of the client
    (same seed, same bits), the second the caution of the worker (the sample's batch broke before).
    `cacheable`: the picture of an identical sample may stand for its own. `returned`: how often its task went back to
    the queue because paused work took too much memory.
    """

    sample_id: SampleId
    task_id: str
    priority: int
    model: str
    kind: str
    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    cfg_scale: float
    sampler: str
    seed: int
    strength: float = 0.8
    image: np.ndarray | None = field(default=None, repr=False)
    mask: np.ndarray | None = field(default=None, repr=False)
    control_image: np.ndarray | None = field(default=None, repr=False)
    control_type: str | None = None
    control_ready: bool | None = None
    control_scale: float = 1.0
    control_start: float = 0.0
    control_end: float = 1.0
    loras: tuple[LoraUse, ...] = ()
    deterministic: bool = False
    alone: bool = False
    arrived: float = 0.0
    preview_every: int = 0
    cacheable: bool = False
    returned: int = 0

    @functools.cached_property
    def identity(self) -> str:
        """SHA-256 in hex of everything that decides the pixels, contents of pictures included. Samples of one identity
        have the same picture, whoever asked for them."""
        named = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in _NOT_PIXELS}
        return hashlib.sha256(json.dumps(named, sort_keys=True, default=_plain).encode()).hexdigest()

    @functools.cached_property
    def batch_key(self) -> BatchKey:
        return BatchKey(self.model, self.width, self.height)


def _plain(value: Any) -> Any:
    """LoRAs and pictures in a form that JSON takes. Where a LoRA's file lies does not matter."""
    if isinstance(value, LoraUse):
        return [value.sha256, value.weight]
    return [value.shape, hashlib.sha256(value.tobytes()).hexdigest()]


@dataclass(frozen=True)
class Progress:
    """`step` of `steps` denoising steps are done. `preview` is uint8 [h, w, 3] RGB where one was asked for."""

    sample_id: SampleId
    step: int
    steps: int
    preview: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Finished:
    """The sample's picture: float32 [H, W, 3] RGB in 0..1. `warnings` are sentences for the client."""

    sample_id: SampleId
    image: np.ndarray = field(repr=False)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """The sample ended without a picture. `retryable`: the same request may succeed at another try."""

    sample_id: SampleId
    error: Exception
    retryable: bool


@dataclass(frozen=True)
class Cancelled:
    """The sample was cancelled and its memory is free."""

    sample_id: SampleId


Event = Progress | Finished | Failed | Cancelled
