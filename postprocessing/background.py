"""Replaces the background by pure white, for product photos on a plain, softly lit background."""

import cv2
import numpy as np

from postprocessing.arrays import Picture

_TOLERANCE = 20.0  # distance in 8-bit Lab that still counts as background
_FEATHER_SIGMA = 1.0  # pixels


def whiten_background(image: Picture) -> Picture:
    """Make the background white, as far as it is connected to the picture's edge; holes inside the object stay.

    The background may change slowly over the picture (a vignette, light from one side): it is modelled by a quadratic
    surface fitted to the edge pixels. A picture whose edges are not plain is returned unchanged.
    """
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    background = _background(lab)
    if background is None:
        return image
    difference = cv2.subtract(lab, background)
    similar = (np.einsum("yxc,yxc->yx", difference, difference) < _TOLERANCE**2).astype(np.uint8)
    outside = _touching_the_edge(similar)
    weight = cv2.GaussianBlur(outside.astype(np.float32), (0, 0), _FEATHER_SIGMA)
    weight = cv2.max(weight, cv2.erode(outside, np.ones((3, 3), np.uint8)).astype(np.float32))
    return cv2.blendLinear(image, np.full_like(image, 255), 1.0 - weight, weight)


def _background(lab: np.ndarray) -> np.ndarray | None:
    """The modelled background (float32 HxWx3, Lab); None when less than two thirds of the edge fit the model."""
    height, width = lab.shape[:2]
    rows, columns = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    y = np.concatenate([np.full(width, -1), np.full(width, 1), rows, rows])
    x = np.concatenate([columns, columns, np.full(height, -1), np.full(height, 1)])
    points = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    colors = np.concatenate([lab[0], lab[-1], lab[:, 0], lab[:, -1]])
    fits = np.linalg.norm(colors - np.median(colors, axis=0), axis=1) < 2 * _TOLERANCE
    for _ in range(3):  # edge pixels of an object are dropped
        if fits.mean() < 2 / 3:
            return None
        model = np.linalg.lstsq(points[fits], colors[fits], rcond=None)[0]
        fits = np.linalg.norm(colors - points @ model, axis=1) < _TOLERANCE
    model = model.astype(np.float32)
    along = model[1] * columns[:, None] + model[3] * columns[:, None] ** 2
    down = model[0] + model[2] * rows[:, None] + model[4] * rows[:, None] ** 2
    across = model[5] * columns[:, None]
    return along + down[:, None] + rows[:, None, None] * across


def _touching_the_edge(mask: np.ndarray) -> np.ndarray:
    """The connected components of a 0/1 mask that touch the picture's edge (uint8 0/1)."""
    _, labels = cv2.connectedComponents(mask, connectivity=4)
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    outside = np.zeros(labels.max() + 1, np.uint8)
    outside[edge[edge > 0]] = 1
    return outside[labels]
