"""How alike two pictures are: PSNR and SSIM. Pictures are float32 [H, W, 3] in 0..1."""

import numpy as np

from postprocessing import similarity

MOST_DB = 120.0  # shown for pictures that differ by less than one millionth


def psnr(picture: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal to noise ratio in dB, at most MOST_DB."""
    error = float(np.mean((picture.astype(np.float64) - reference) ** 2))
    return min(MOST_DB, -10 * float(np.log10(max(error, 1e-30))))


def ssim(picture: np.ndarray, reference: np.ndarray) -> float:
    """Structural similarity of the two with 8 bits a channel, as they are delivered."""
    return similarity.ssim(*((255 * one).round().clip(0, 255).astype(np.uint8) for one in (picture, reference)))
