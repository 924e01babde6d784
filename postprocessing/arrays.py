"""The one form of a picture between steps: a NumPy array, uint8, height x width x 3, RGB, sRGB, 0 to 255, C-contiguous.

Every step takes and returns this form and leaves its input unchanged. Other forms enter through `as_rgb8`. OpenCV's BGR
never leaves the function that needs it.
"""

from typing import Any

import numpy as np

Picture = np.ndarray[Any, np.dtype[np.uint8]]
LARGEST_SIDE = 16384  # pixels


def check_picture(image: Any, name: str = "picture") -> Picture:
    """The array, C-contiguous. Raises TypeError or ValueError when it is not of the form above."""
    if not isinstance(image, np.ndarray):
        raise TypeError(f"{name} is a {type(image).__name__}, not a NumPy array.")
    if image.dtype != np.uint8:
        raise ValueError(f"{name} has dtype {image.dtype}; it must be uint8 (as_rgb8 converts).")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"{name} has shape {image.shape}; it must be (height, width, 3) (as_rgb8 converts).")
    if not 1 <= min(image.shape[:2]) <= max(image.shape[:2]) <= LARGEST_SIDE:
        raise ValueError(f"{name} is {image.shape[1]} x {image.shape[0]}; sides may be 1 to {LARGEST_SIDE} pixels.")
    return np.ascontiguousarray(image)


def as_rgb8(array: Any) -> Picture:
    """Convert a picture array to the form above: grey (HxW, HxWx1), grey with alpha, RGB, RGBA; uint8, uint16, or float
    from 0 to 1.

    Alpha is composited onto white. Floats are clipped to 0 to 1. Raises ValueError for NaN, infinities,
    other arrays.
    """
    if not isinstance(array, np.ndarray) or array.ndim not in (2, 3):
        raise ValueError("A picture is an array of two or three dimensions.")
    planes = array[:, :, None] if array.ndim == 2 else array
    if planes.shape[2] not in (1, 2, 3, 4):
        raise ValueError(f"A picture has 1 to 4 channels, not {planes.shape[2]}.")
    unit = _as_unit(planes)
    if planes.shape[2] in (2, 4):
        alpha = unit[:, :, -1:]
        unit = unit[:, :, :-1] * alpha + (1.0 - alpha)
    if unit.shape[2] == 1:
        unit = np.repeat(unit, 3, axis=2)
    return check_picture(np.rint(unit * 255.0).astype(np.uint8))


def _as_unit(planes: np.ndarray) -> np.ndarray:
    if planes.dtype == np.uint8:
        return planes.astype(np.float32) / 255.0
    if planes.dtype == np.uint16:
        return planes.astype(np.float32) / 65535.0
    if np.issubdtype(planes.dtype, np.floating):
        if not np.isfinite(planes).all():
            raise ValueError("The picture contains NaN or infinities.")
        return np.clip(planes, 0.0, 1.0).astype(np.float32)
    raise ValueError(f"A picture is uint8, uint16 or float, not {planes.dtype}.")
