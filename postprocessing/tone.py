"""Tone curve, saturation, sharpening."""

import cv2
import numpy as np

from postprocessing.arrays import Picture
from postprocessing.recipe import IDENTITY, Curve, Tone

_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # Rec. 709 weights of R, G, B
_SHARPEN_SIGMA = 1.2  # pixels


def apply_tone(image: Picture, tone: Tone) -> Picture:
    if tone.curve != IDENTITY:
        image = cv2.LUT(image, curve_table(tone.curve))
    if tone.saturation != 1:
        image = _saturate(image, tone.saturation)
    if tone.sharpen:
        blurred = cv2.GaussianBlur(image, (0, 0), _SHARPEN_SIGMA)
        image = cv2.addWeighted(image, 1.0 + tone.sharpen, blurred, -tone.sharpen, 0.0)
    return image


def curve_table(curve: Curve) -> np.ndarray:
    """The curve as a table of 256 levels (uint8), by monotone cubic interpolation (Fritsch and Carlson 1980) with
    harmonic-mean slopes: it never overshoots between two points.
    """
    x, y = np.array(curve, np.float64).T
    steps = np.diff(x)
    secants = np.diff(y) / steps
    slopes = np.concatenate([secants[:1], np.zeros(len(x) - 2), secants[-1:]])
    for k in range(1, len(x) - 1):
        if secants[k - 1] * secants[k] > 0:
            slopes[k] = 2 * secants[k - 1] * secants[k] / (secants[k - 1] + secants[k])
    at = np.linspace(0.0, 1.0, 256)
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    h = steps[i]
    t = (at - x[i]) / h
    values = (
        y[i] * (1 + 2 * t) * (1 - t) ** 2
        + h * slopes[i] * t * (1 - t) ** 2
        + y[i + 1] * t**2 * (3 - 2 * t)
        + h * slopes[i + 1] * t**2 * (t - 1)
    )
    return np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)


def _saturate(image: Picture, factor: float) -> Picture:
    """Move each pixel away from (factor > 1) or towards its own grey; greys stay."""
    mix = np.eye(3, dtype=np.float32) * factor + (1.0 - factor) * _LUMA[None, :]
    return cv2.transform(image, mix)
