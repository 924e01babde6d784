"""Background to pure white, for product shots on a plain, softly lit ground."""

import cv2
import numpy as np

from postprocessing.arrays import Picture

_TOLERANCE = 20.0  # distance in 8-bit Lab that still counts as ground
_FEATHER_SIGMA = 1.0  # pixels


def whiten_background(image: Picture) -> Picture:
    """Make white what looks like the ground and touches the picture's edge; what the object encloses stays.

    The ground may change slowly over the picture (a vignette, light from one side): it is modelled by a quadratic
    surface through the edge pixels. A picture whose edges are not plain is returned unchanged.
    """
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    ground = _ground(lab)
    if ground is None:
        return image
    alike = (np.linalg.norm(lab - ground, axis=2) < _TOLERANCE).astype(np.uint8)
    outside = _touching_the_edge(alike)
    weight = cv2.GaussianBlur(outside.astype(np.float32), (0, 0), _FEATHER_SIGMA)
    weight = np.maximum(weight, cv2.erode(outside, np.ones((3, 3), np.uint8)).astype(np.float32))[:, :, None]
    return np.rint(image * (1.0 - weight) + 255.0 * weight).astype(np.uint8)


def _ground(lab: np.ndarray) -> np.ndarray | None:
    """The modelled ground (float32 HxWx3, Lab), or None when under two thirds of the edge fit the model."""
    height, width = lab.shape[:2]
    rows, columns = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    edge = np.zeros((height, width), bool)
    edge[[0, -1], :] = edge[:, [0, -1]] = True
    points, colors = _terms(y[edge], x[edge]), lab[edge]
    fits = np.linalg.norm(colors - np.median(colors, axis=0), axis=1) < 2 * _TOLERANCE
    for _ in range(3):  # what is not ground (an object that runs over the edge) drops out
        if fits.mean() < 2 / 3:
            return None
        model = np.linalg.lstsq(points[fits], colors[fits], rcond=None)[0]
        fits = np.linalg.norm(colors - points @ model, axis=1) < _TOLERANCE
    return (_terms(y.ravel(), x.ravel()) @ model).reshape(height, width, 3)


def _terms(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def _touching_the_edge(mask: np.ndarray) -> np.ndarray:
    """The connected parts of a 0/1 mask that reach the picture's edge (uint8 0/1)."""
    _, labels = cv2.connectedComponents(mask, connectivity=4)
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.isin(labels, edge[edge > 0]).astype(np.uint8)
