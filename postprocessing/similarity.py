"""Structural similarity (SSIM) of two pictures, for `quality: "auto"` and `bench_formats`."""

import io

import cv2
import numpy as np
from PIL import Image

from postprocessing.arrays import Picture

REFERENCE_QUALITY = 90  # of the plain JPEG that other formats are compared with
INDISTINGUISHABLE = 0.99  # SSIM above which no difference is visible
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # constants of Wang et al. 2004


def ssim(first: Picture, second: Picture) -> float:
    """Structural similarity of the luma of two pictures of one size, -1 to 1 (Wang et al. 2004; Gaussian window,
    sigma 1.5).
    """
    x, y = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64) for image in (first, second))

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (11, 11), 1.5)

    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    bottom = (mean_x**2 + mean_y**2 + _C1) * (variance_x + variance_y + _C2)
    return float((top / bottom).mean())


def plain_jpeg(image: Picture, quality: int = REFERENCE_QUALITY) -> bytes:
    """A JPEG as most programs write it: 4:2:0, baseline, no metadata."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
