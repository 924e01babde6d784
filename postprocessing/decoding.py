"""Decodes stored pictures and customers' logos. Pillow only: the web process checks logos, too."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from postprocessing.arrays import Picture, as_rgb8
from postprocessing.client_pictures import read_picture

_MARK_SIDE = 4096  # pixels; longest side of a customer's logo


def decode(data: bytes) -> Picture:
    """The picture of a stored file, turned upright, alpha composited onto white. Raises ValueError."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "WEBP", "JPEG", "AVIF")) as file:
            if file.mode.startswith("I;16"):
                return as_rgb8(np.asarray(file, dtype=np.uint16))
            mode = "RGBA" if file.has_transparency_data else "RGB"
            return as_rgb8(np.asarray((ImageOps.exif_transpose(file) or file).convert(mode)))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError) as error:
        raise ValueError(f"Not a readable picture: {error}") from error


def decode_mark(data: bytes) -> Image.Image:
    """A customer's logo as an RGBA picture. Raises ValueError."""
    picture = read_picture(data, max_pixels=_MARK_SIDE**2).picture
    if max(picture.size) > _MARK_SIDE:
        raise ValueError(f"It is {picture.width} x {picture.height}; sides may be up to {_MARK_SIDE} pixels.")
    return picture.convert("RGBA")


def is_readable_picture(data: bytes) -> bool:
    try:
        decode_mark(data)
    except ValueError:
        return False
    return True
