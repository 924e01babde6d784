"""What a request may ask for. docs/api.md of the server describes each; unknown names are sent as they are."""

from __future__ import annotations

import os
from typing import IO, Any, Union

from typing_extensions import TypedDict

# A path, an address (http, https or data:), the bytes of a file, or an open file.
Picture = Union[str, bytes, "os.PathLike[str]", IO[bytes]]


class RequestFields(TypedDict, total=False):
    """What stands beside `params`. `idempotency_key`: the client makes one itself when there is none. `prefer_wait`:
    seconds in which the task, if it ends so soon, comes finished.
    """

    callback_url: str
    priority: int
    deadline_seconds: int
    idempotency_key: str
    prefer_wait: int


class ProcessingParameters(RequestFields, total=False):
    """Of every kind: what is done to the finished picture."""

    saturation: float
    format: str
    postprocess: dict[str, Any]


class Parameters(ProcessingParameters, total=False):
    """Of every kind that draws."""

    resolution: str
    model: str
    style: str
    style_keywords: list[str]
    negative_text: str
    steps: int
    cfg_scale: float
    sampler: str
    seed: int
    num_images: int
    deterministic: bool
    cache: bool
    loras: list[Any]
    preview: bool


class ImageParameters(Parameters, total=False):
    """Of what begins with a picture."""

    strength: float


class InpaintParameters(ImageParameters, total=False):
    """`area`: left, top, width and height in pixels, instead of a mask."""

    mask_feather: int
    area: list[int]


class ControlParameters(InpaintParameters, total=False):
    """Of what keeps the lines, depth or pose of a picture."""

    control_type: str
    control_strength: float
    control_start: float
    control_end: float
    control_ready: bool


class BatchParameters(Parameters, total=False):
    """`batch_size`: the largest number of tasks in one forward pass."""

    batch_size: int


class HistoryFilters(TypedDict, total=False):
    """`since` and `until` are days (UTC), such as 2026-11-20."""

    since: str
    until: str
    status: str
    kind: str
    style: str
    model: str
    resolution: str
    text: str
    batch_id: str
    team: bool


BESIDE_PARAMS = frozenset({"callback_url", "priority", "deadline_seconds", "batch_size", "dry_run"})
