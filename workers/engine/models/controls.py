"""Control pictures for ControlNet. A ready one is taken as it is; others are drawn from a photo.

Its pixels decide what a picture is, unless the request says it (`control_ready`):

| type     | ready if it is                       | else                                  |
|----------|--------------------------------------|---------------------------------------|
| canny    | black and white, mostly black        | its edges are drawn here              |
| depth    | grey                                 | drawn by a network (preprocessors.py) |
| openpose | mostly black                         | drawn by a network (preprocessors.py) |
| tile     | any picture: its details are redrawn | -                                     |

OpenCV works in BGR by habit; nothing here depends on the order of channels, and RGB comes in and goes out.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from workers.engine.errors import InvalidSample
from workers.engine.requests import SampleRequest

CANNY_LOW, CANNY_HIGH = 100, 200  # the thresholds with which ControlNet 1.1 was trained
GREY_SPREAD = 12  # of 255: a grey picture that was saved as JPEG has so much colour

Draw = Callable[[str, np.ndarray], np.ndarray]
"""Control type and photo, uint8 [H, W, 3] RGB -> control picture of the same form."""


def control_picture(request: SampleRequest, draw: Draw) -> Image.Image:
    """The picture for the ControlNet of the request, in the size of the result.

    Without a control picture the input picture serves as the photo. `draw` makes depth and pose pictures of photos;
    what it raises is raised here. Raises InvalidSample if there is no picture at all.
    """
    source = request.control_image if request.control_image is not None else request.image
    if source is None:
        raise InvalidSample("a ControlNet task needs a control picture")
    control_type = request.parameters.control_type
    ready = request.parameters.control_ready
    if ready is None:
        ready = request.control_image is not None or control_type == "canny"
        ready = ready and looks_ready(control_type, source)
    image = Image.fromarray(source)
    size = (request.width, request.height)
    sized = image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
    if ready:
        return sized
    photo = np.asarray(sized)
    return Image.fromarray(edges(photo) if control_type == "canny" else draw(control_type, photo))


def edges(picture: np.ndarray) -> np.ndarray:
    """White Canny edges on black; uint8 [H, W, 3] RGB in and out.

    All three channels are looked at, as by ControlNet's own detector: red on blue has an edge, though grey against
    the same grey has none.
    """
    return np.repeat(cv2.Canny(picture, CANNY_LOW, CANNY_HIGH)[:, :, None], 3, axis=2)


def looks_ready(control_type: str, picture: np.ndarray) -> bool:
    """Whether a picture is a control picture already, by the table above. Types that it does not name are."""
    if control_type == "canny":
        return is_black_and_white(picture)
    if control_type == "depth":
        spread = picture.max(axis=2).astype(np.int16) - picture.min(axis=2)
        return bool((spread <= GREY_SPREAD).mean() > 0.98)
    if control_type == "openpose":
        return bool((picture < 32).all(axis=2).mean() > 0.5)
    return True


def is_black_and_white(picture: np.ndarray) -> bool:
    """Whether nearly all of a picture is near black or near white (edge pictures that were resized have some grey),
    and black prevails as it does where lines are drawn."""
    dark, light = (picture < 32).all(axis=2), (picture > 223).all(axis=2)
    return bool((dark | light).mean() > 0.9 and dark.mean() > 0.5)
