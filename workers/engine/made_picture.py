"""What becomes of every model's picture before anybody gets it: it is finite, and inpainting changes the mask only.

Both hold for every kind of model (diffusers, LaMa, remote), because the engine asks for them and not the model.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from workers.engine.errors import NotFinite
from workers.engine.requests import SampleRequest


def completed(request: SampleRequest, picture: np.ndarray) -> np.ndarray:
    """float32 [H, W, 3] RGB in 0..1, in and out. Raises NotFinite."""
    check_finite(picture, "picture")
    masked = request.kind.endswith("inpaint") or request.kind == "remove"
    return laid_over(picture, request) if masked else picture


def laid_over(picture: np.ndarray, request: SampleRequest) -> np.ndarray:
    """The picture over the request's own through its mask, soft where the mask is: where that is black, a pixel of
    the 8-bit picture is the input's to the bit (the input brought to the picture's size, if it has another)."""
    height, width = picture.shape[:2]
    original = sized(request.image, width, height).astype(picture.dtype) / 255
    weight = sized(request.mask, width, height).astype(picture.dtype)[:, :, None] / 255
    return picture * weight + original * (1 - weight)


def sized(picture: np.ndarray | None, width: int, height: int) -> np.ndarray:
    """An input picture or a mask in that size, as the pipelines get it."""
    assert picture is not None, "only asked for with a picture"
    image = Image.fromarray(picture)
    return np.asarray(
        image if image.size == (width, height) else image.resize((width, height), Image.Resampling.LANCZOS)
    )


def check_finite(values: np.ndarray, what: str) -> None:
    """Raises NotFinite. One sum finds every NaN and infinity among numbers of ordinary size."""
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(values.sum())
    if not finite:
        raise NotFinite(what)
