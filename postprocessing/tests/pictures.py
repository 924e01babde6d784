"""Pictures that the tests draw for themselves."""

import cv2
import numpy as np


def scene(height: int = 256, width: int = 256, seed: int = 0) -> np.ndarray:
    """A natural-looking test picture: soft gradients, shapes with hard edges, fine texture (uint8 RGB)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    unit = np.stack([0.3 + 0.5 * x / width, 0.35 + 0.4 * y / height, 0.8 - 0.5 * x / width], axis=2)
    picture = (unit * 255).astype(np.uint8)
    for _ in range(12):
        center = (int(random.integers(0, width)), int(random.integers(0, height)))
        color = tuple(int(value) for value in random.integers(30, 230, 3))
        radius = int(random.integers(max(2, min(height, width) // 30), max(3, min(height, width) // 6)))
        cv2.circle(picture, center, radius, color, -1, cv2.LINE_AA)
    texture = cv2.GaussianBlur(random.normal(0, 25, (height, width)).astype(np.float32), (0, 0), 0.8)
    return np.clip(picture + texture[:, :, None] * (x[:, :, None] > width / 2), 0, 255).astype(np.uint8)


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 pictures."""
    error = np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2)
    return 99.0 if error == 0 else 10 * np.log10(255**2 / error)
