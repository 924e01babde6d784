"""Basic steps: white balance, brightness, contrast, denoising (OpenCV)."""

import cv2
import numpy as np

from postprocessing.arrays import Picture
from postprocessing.recipe import Basic


def apply_basic(image: Picture, basic: Basic) -> Picture:
    """Denoise first (noise must not be amplified), then balance, contrast and brightness: one line per channel."""
    if basic.denoise:
        image = _denoise(image, basic.denoise)
    gains = grey_world_gains(image) if basic.white_balance == "auto" else np.ones(3, np.float32)
    if (gains == 1).all() and basic.contrast == 1 and basic.brightness == 0:
        return image
    offset = 127.5 * (1.0 - basic.contrast) + basic.brightness * 255.0
    return cv2.transform(image, np.column_stack([np.diag(gains * basic.contrast), np.full(3, offset)]))


def grey_world_gains(image: Picture) -> np.ndarray:
    """Factors (float32, 3) that make the channel means equal, each clipped to 0.5 to 2; ones for a black picture."""
    means = np.array(cv2.mean(image)[:3], np.float32)
    if means.min() < 1:
        return np.ones(3, np.float32)
    return np.clip(means.mean() / means, 0.5, 2.0).astype(np.float32)


def _denoise(image: Picture, strength: float) -> Picture:
    """Non-local means; OpenCV works on BGR here. Strength 1 is 6 levels of the filter: more blurs soft edges."""
    height = 6.0 * strength
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    clean = cv2.fastNlMeansDenoisingColored(bgr, None, height, height, 7, 15)
    return cv2.cvtColor(clean, cv2.COLOR_BGR2RGB)
