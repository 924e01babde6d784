"""How alike two pictures are: PSNR and SSIM. Pictures are float32 [H, W, 3] in 0..1."""

import cv2
import numpy as np

MOST_DB = 120.0  # shown for pictures that differ by less than one millionth
_C1, _C2 = 0.01**2, 0.03**2


def psnr(picture: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal to noise ratio in dB, at most MOST_DB."""
    error = float(np.mean((picture.astype(np.float64) - reference) ** 2))
    return min(MOST_DB, -10 * float(np.log10(max(error, 1e-30))))


def ssim(picture: np.ndarray, reference: np.ndarray) -> float:
    """Structural similarity of the grey pictures, after Wang et al. 2004: Gaussian windows of 11 pixels, sigma 1.5."""
    x, y = (cv2.cvtColor(one.astype(np.float32), cv2.COLOR_RGB2GRAY).astype(np.float64) for one in (picture, reference))

    def blurred(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (11, 11), 1.5)[5:-5, 5:-5]

    mean_x, mean_y = blurred(x), blurred(y)
    var_x, var_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    both = blurred(x * y) - mean_x * mean_y
    likeness = ((2 * mean_x * mean_y + _C1) * (2 * both + _C2)) / (
        (mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2)
    )
    return float(likeness.mean())
