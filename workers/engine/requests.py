"""What goes into the engine (a SampleRequest) and what comes out of it (events). Plain data: no torch here."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

from generation.catalogue.kinds import engine_kind
from generation.catalogue.parameters import Parameters
from generation.queue.values import BatchKey

if TYPE_CHECKING:
    import numpy as np


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


@dataclass(frozen=True)
class TaskBatch:
    """The batch request that made a sample's task: at most `limit` of its tasks may share a forward pass."""

    id: str
    limit: int


_NOT_PIXELS: Final = {
    "num_images", "style", "image_key", "mask_key", "control_key", "postprocess", "style_tone", "plan_watermark",
    "preview", "cache", "check_images", "lowered_from", "schema", "translated_text", "translated_negative_text",
}  # fmt: skip
"""Parameters that do not change what the engine makes. Any other one is part of a sample's identity."""


@dataclass(frozen=True)
class SampleRequest:
    """One image of a task: what is asked for, and what the worker adds.

    `image` and `control_image` are uint8 [H, W, 3] RGB; `mask` is uint8 [H, W],
    255 where the picture is repainted. Pictures of another size than the result are resized to it. `loras` are those of
    the parameters, with the files where they lie. `batch`: where a batch request set a limit. `alone` keeps the sample
    out of shared forward passes because its batch broke before. `arrived` is in monotonic seconds and orders samples of
    one priority. `preview_every`: a preview with every so many steps, 0 for none. `returned`: how often its task went
    back to the queue because paused work took too much memory.
    """

    sample_id: SampleId
    parameters: Parameters
    model: str
    priority: int
    image: np.ndarray | None = field(default=None, repr=False)
    mask: np.ndarray | None = field(default=None, repr=False)
    control_image: np.ndarray | None = field(default=None, repr=False)
    loras: tuple[LoraUse, ...] = ()
    batch: TaskBatch | None = None
    alone: bool = False
    arrived: float = 0.0
    preview_every: int = 0
    returned: int = 0

    @property
    def task_id(self) -> str:
        return self.sample_id.task_id

    @functools.cached_property
    def kind(self) -> str:
        """The pipelines' word for the task."""
        return engine_kind(self.parameters)

    @property
    def width(self) -> int:
        return self.parameters.width

    @property
    def height(self) -> int:
        return self.parameters.height

    @property
    def steps(self) -> int:
        return self.parameters.steps

    @property
    def seed(self) -> int:
        return self.parameters.seed_of(self.sample_id.index)

    @property
    def cacheable(self) -> bool:
        """Whether the picture of an identical sample may stand for its own."""
        return self.parameters.cache

    @functools.cached_property
    def batch_key(self) -> BatchKey:
        return BatchKey(self.model, self.width, self.height)

    @functools.cached_property
    def identity(self) -> str:
        """SHA-256 in hex of everything that decides the pixels, contents of pictures included. Samples of one identity
        have the same picture, whoever asked for them."""
        asked = {item.name: getattr(self.parameters, item.name) for item in fields(Parameters)}
        decisive = {name: value for name, value in asked.items() if name not in _NOT_PIXELS}
        decisive |= {"model": self.model, "kind": self.kind, "seed": self.seed}
        decisive |= {"loras": [(lora.sha256, lora.weight) for lora in self.loras]}
        decisive |= {name: _digest(getattr(self, name)) for name in ("image", "mask", "control_image")}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _digest(picture: np.ndarray | None) -> tuple[Any, ...] | None:
    return None if picture is None else (*picture.shape, hashlib.sha256(picture.tobytes()).hexdigest())


@dataclass(slots=True)
class SampleTimes:
    """What a sample spent in the engine, for traces: sums and moments (monotonic s; 0: not reached), no list of steps.

    `joined` counts the samples of all its steps: over `steps` it is the mean batch. `paused`: passes that went by
    without it.
    """

    began: float = 0.0
    denoise_from: float = 0.0
    denoise_until: float = 0.0
    decode_from: float = 0.0
    decode_until: float = 0.0
    steps: int = 0
    joined: int = 0
    paused: float = 0.0

    def note_step(self, began: float, ended: float, samples: int) -> None:
        """One of its steps, shared by so many samples."""
        self.denoise_from = self.denoise_from or began
        self.denoise_until = ended
        self.steps += 1
        self.joined += samples


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
    times: SampleTimes | None = None


@dataclass(frozen=True)
class Failed:
    """The sample ended without a picture. `retryable`: the same request may succeed at another try."""

    sample_id: SampleId
    error: Exception
    retryable: bool
    times: SampleTimes | None = None


@dataclass(frozen=True)
class Cancelled:
    """The sample was cancelled and its memory is free."""

    sample_id: SampleId


Event = Progress | Finished | Failed | Cancelled
