"""Control pictures for ControlNet. A ready one is always taken as it is; edges can also be drawn from a photo here.

OpenCV works in BGR by habit; here it only sees grey pictures, and RGB comes in and goes out.
"""

from __future__ import annotations

import cv2
import numpy as np

from workers.engine.errors import InvalidRequest
from workers.engine.requests import SampleRequest

CANNY_LOW, CANNY_HIGH = 100, 200  # the thresholds with which ControlNet 1.1 was trained


def control_picture(request: SampleRequest) -> np.ndarray:
    """uint8 [H, W, 3] RGB for the ControlNet of `request.control_type`.

    For canny a photo is turned into its edges; what is black and white already is a ready edge picture. Without a
    control picture the edges of the input picture serve. Raises InvalidRequest if there is neither, or if a depth
    or pose picture is missing: those need a preprocessor that is not part of this installation.
    """
    given = request.control_image
    if request.control_type == "canny":
        source = given if given is not None else request.image
        if source is None:
            raise InvalidRequest("a ControlNet task needs a control picture")
        return source if is_black_and_white(source) else edges(source)
    if given is None:
        raise InvalidRequest(f"a ready control picture is needed for control type {request.control_type!r}")
    return given


def edges(picture: np.ndarray) -> np.ndarray:
    """White Canny edges on black; uint8 [H, W, 3] RGB in and out."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return np.repeat(cv2.Canny(grey, CANNY_LOW, CANNY_HIGH)[:, :, None], 3, axis=2)


def is_black_and_white(picture: np.ndarray) -> bool:
    """Whether nearly all of a picture is near black or near white (edge pictures that were resized have some grey),
    and black prevails as it does where lines are drawn."""
    dark, light = (picture < 32).all(axis=2), (picture > 223).all(axis=2)
    return bool((dark | light).mean() > 0.9 and dark.mean() > 0.5)
