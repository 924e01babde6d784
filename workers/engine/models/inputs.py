"""From a request to the arguments of a stock pipeline: pictures, sizes, strengths. No model is touched here."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image

from workers.engine.errors import InvalidSample
from workers.engine.models.controls import Draw, control_picture
from workers.engine.requests import SampleRequest


def picture_arguments(request: SampleRequest, draw: Draw) -> dict[str, Any]:
    """What the pipeline of `request.kind` needs beside prompt, size and steps. Raises InvalidSample if it lacks.

    `draw` makes control pictures of photos (controls.py).
    """
    kind, asked = request.kind, request.parameters
    arguments: dict[str, Any] = {}
    if kind.endswith(("img2img", "inpaint")):
        arguments["image"] = _sized(_needed(request.image, "an input picture", kind), request)
        arguments["strength"] = asked.strength
    if kind.endswith("inpaint"):
        arguments["mask_image"] = _sized(_needed(request.mask, "a mask", kind), request)
    if kind.startswith("controlnet"):
        control = control_picture(request, draw)
        arguments["image" if kind == "controlnet" else "control_image"] = control
        arguments["controlnet_conditioning_scale"] = float(asked.control_scale)
        arguments["control_guidance_start"] = asked.control_start
        arguments["control_guidance_end"] = asked.control_end
    return arguments


def steps_for(request: SampleRequest, warnings: list[str]) -> int:
    """Steps to ask of the pipeline. Of them it runs the part `strength`, which must be one step at least."""
    steps, strength = request.parameters.steps, request.parameters.strength
    if not request.kind.endswith(("img2img", "inpaint")) or int(steps * strength) >= 1:
        return steps
    if strength <= 0:
        raise InvalidSample("strength must be above 0")
    needed = math.ceil(1 / strength)
    warnings.append(f"{steps} steps at strength {strength} leave none to run; {needed} were asked for")
    return needed


def _needed(picture: np.ndarray | None, what: str, kind: str) -> np.ndarray:
    if picture is None:
        raise InvalidSample(f"a task of kind {kind} needs {what}")
    return picture


def _sized(picture: np.ndarray, request: SampleRequest) -> Image.Image:
    """As the pipelines take pictures, in the size of the result."""
    image = Image.fromarray(picture)
    size = (request.width, request.height)
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
