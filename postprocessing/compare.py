"""How many bytes a format needs for the same visual quality as another, measured by structural similarity (SSIM)."""

import io
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image

from postprocessing.arrays import Picture
from postprocessing.formats import decode, encode
from postprocessing.recipe import Output

_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # constants of Wang et al. 2004


@dataclass(frozen=True)
class Match:
    """The smallest file of a format whose SSIM is not below the reference's. `quality` is None where no quality
    reaches it.
    """

    format: str
    quality: int | None
    bytes: int
    ssim: float


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


def at_quality(image: Picture, output: Output) -> Match:
    data = encode(image, output).data
    return Match(output.format, output.quality, len(data), ssim(image, decode(data)))


def plain_jpeg(image: Picture, quality: int) -> Match:
    """The reference: a JPEG as most programs write it (4:2:0, baseline)."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    data = buffer.getvalue()
    return Match("jpeg", quality, len(data), ssim(image, decode(data)))


def match(image: Picture, form: str, reference: float) -> Match:
    """The lowest quality of `form` whose SSIM reaches `reference`, by bisection (SSIM rises with quality)."""
    plain = Output(form, metadata="none")
    low, high = 1, 100
    best = at_quality(image, replace(plain, quality=high))
    if best.ssim < reference:
        return replace(best, quality=None)
    while low < high:
        middle = (low + high) // 2
        tried = at_quality(image, replace(plain, quality=middle))
        if tried.ssim >= reference:
            best, high = tried, middle
        else:
            low = middle + 1
    return best
