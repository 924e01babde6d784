"""From a request to the arguments of a stock pipeline: pictures, sizes, strengths. No model is touched here."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image

from workers.engine.errors import InvalidRequest
from workers.engine.models.controls import Draw, control_picture
from workers.engine.requests import SampleRequest


def picture_arguments(request: SampleRequest, draw: Draw) -> dict[str, Any]:
    """What the pipeline of `request.kind` needs beside prompt, size and steps. Raises InvalidRequest if it lacks.

    `draw` makes control pictures of photos (controls.py).
    """
    kind = request.kind
    arguments: dict[str, Any] = {}
    if kind.endswith(("img2img", "inpaint")):
        arguments["image"] = _sized(_needed(request.image, "an input picture", kind), request)
        arguments["strength"] = request.strength
    if kind.endswith("inpaint"):
        arguments["mask_image"] = _sized(_needed(request.mask, "a mask", kind), request)
    if kind.startswith("controlnet"):
        control = control_picture(request, draw)
        arguments["image" if kind == "controlnet" else "control_image"] = control
        arguments["controlnet_conditioning_scale"] = float(request.control_scale)
        arguments["control_guidance_start"] = request.control_start
        arguments["control_guidance_end"] = request.control_end
    return arguments


def steps_for(request: SampleRequest, warnings: list[str]) -> int:
    """Steps to ask of the pipeline. Of them it runs the part `strength`, which must be one step at least."""
    if not request.kind.endswith(("img2img", "inpaint")) or int(request.steps * request.strength) >= 1:
        return request.steps
    if request.strength <= 0:
        raise InvalidRequest("strength must be above 0")
    steps = math.ceil(1 / request.strength)
    warnings.append(f"{request.steps} steps at strength {request.strength} leave none to run; {steps} were asked for")
    return steps


def _needed(picture: np.ndarray | None, what: str, kind: str) -> np.ndarray:
    if picture is None:
        raise InvalidRequest(f"a task of kind {kind} needs {what}")
    return picture


def _sized(picture: np.ndarray, request: SampleRequest) -> Image.Image:
    """As the pipelines take pictures, in the size of the result."""
    image = Image.fromarray(picture)
    size = (request.width, request.height)
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
