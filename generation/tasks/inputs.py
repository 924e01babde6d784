"""Pictures that clients send with a request: from a URL, an upload or base64, checked before a single pixel is decoded.

    where it comes from   bounded by
    URL                   fetched before (generation/api/bounds/fetching.py): public addresses only, few redirects,
                          MAX_INPUT_BYTES, INPUT_TIMEOUT_S
    upload, base64        MAX_BODY_BYTES of the request, MAX_INPUT_BYTES of the picture

The content decides what a picture is, never a name or a header: PNG, JPEG or WebP, one frame, at most
MAX_INPUT_PIXELS. It is turned as its EXIF says, its alpha laid on white, brought to the task's size and stored as
PNG, so nothing of the client's file but its pixels goes further.
"""

import base64
import binascii
import io
import re
import warnings
from dataclasses import dataclass
from typing import Final

from django.core.files.uploadedfile import UploadedFile
from PIL import Image as Pillow
from PIL import ImageFilter, ImageOps, UnidentifiedImageError

from imagegenx_site.errors import Fault
from imagegenx_site.outbound_http import url_problem

FORMATS: Final = ("PNG", "JPEG", "WEBP")
_DATA_URL: Final = re.compile(r"data:[a-z]+/[a-z0-9.+-]+;base64,")
_SAME_SHAPE: Final = 0.02  # relative difference of two aspect ratios that still counts as the same shape
_PNG_EFFORT: Final = 1  # these files live for one task: speed counts, size does not

Sent = str | bytes | UploadedFile  # base64 or an address; what was fetched; an upload


@dataclass(frozen=True)
class Inverted:
    """A mask whose black parts are meant."""

    sent: Sent


Given = Sent | Inverted


class InputFault(Exception):
    """The picture can't be used."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message

    def at(self, field: str) -> Fault:
        """The fault as the client gets it."""
        return Fault(field, self.code, self.message)


@dataclass(frozen=True)
class InputLimits:
    """Bounds of one picture."""

    max_bytes: int
    max_pixels: int


@dataclass(frozen=True)
class InputPicture:
    """A picture ready for the store: PNG of exactly the task's size."""

    role: str
    data: bytes


def form_fault(given: Given) -> str | None:
    """What is wrong with the way a picture is given, as far as it shows without fetching or decoding it."""
    if isinstance(given, Inverted):
        return form_fault(given.sent)
    if isinstance(given, UploadedFile):
        return "The uploaded file is empty." if not given.size else None
    if isinstance(given, bytes):
        return None
    if is_address(given):
        fault = url_problem(given)
        return f"This address can't be fetched: {fault}." if fault else None
    if "://" in given[:20]:
        return "Give an http:// or https:// address, or the picture in base64."
    return None


def is_address(sent: Sent) -> bool:
    """Whether it must be fetched before it can be loaded."""
    return isinstance(sent, str) and sent[:8].lower().startswith(("http://", "https://"))


def address_of(given: Given) -> str | None:
    """Where the picture must be fetched from before it can be loaded; None for one that is here."""
    sent = given.sent if isinstance(given, Inverted) else given
    return sent if isinstance(sent, str) and is_address(sent) else None


def with_content(given: Given, data: bytes) -> Given:
    """The same with what was fetched."""
    return Inverted(data) if isinstance(given, Inverted) else data


def load(given: Given, limits: InputLimits) -> Pillow.Image:
    """The picture, upright, RGB. Raises InputFault."""
    if isinstance(given, Inverted):
        return ImageOps.invert(load(given.sent, limits).convert("L")).convert("RGB")
    data = _bytes_of(given, limits)
    if len(data) > limits.max_bytes:
        raise InputFault("too_large", f"The picture has more than {limits.max_bytes >> 20} MiB.")
    return _decoded(data, limits.max_pixels)


def _bytes_of(given: Sent, limits: InputLimits) -> bytes:
    if isinstance(given, UploadedFile):
        given.seek(0)
        return given.read(limits.max_bytes + 1)
    if isinstance(given, bytes):
        return given
    if is_address(given):
        raise InputFault("not_fetched", "The picture was not fetched.")
    text = _DATA_URL.sub("", given, count=1) if given.startswith("data:") else given
    if len(text) > limits.max_bytes * 4 / 3 + 1000:
        raise InputFault("too_large", f"The picture has more than {limits.max_bytes >> 20} MiB.")
    try:
        return base64.b64decode(text.encode().translate(None, b" \t\r\n\f\v"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputFault("malformed", "This is neither an address nor base64.") from error


def _decoded(data: bytes, max_pixels: int) -> Pillow.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            picture = Pillow.open(io.BytesIO(data), formats=FORMATS)
            _check_header(picture, max_pixels)
            picture.load()
            upright = ImageOps.exif_transpose(picture)
    except UnidentifiedImageError as error:
        raise InputFault("not_a_picture", f"The content is no {', '.join(FORMATS)} picture.") from error
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        raise InputFault("too_many_pixels", _too_many(max_pixels)) from error
    except (OSError, ValueError, SyntaxError, MemoryError, EOFError) as error:
        raise InputFault("not_a_picture", "The picture is damaged.") from error
    return _on_white(upright)


def _check_header(picture: Pillow.Image, max_pixels: int) -> None:
    """Refuse by what the header says, before anything is decoded."""
    if picture.width * picture.height > max_pixels:
        raise InputFault("too_many_pixels", _too_many(max_pixels))
    if min(picture.size) < 8:
        raise InputFault("too_small", "The picture must have at least 8 pixels a side.")
    if getattr(picture, "n_frames", 1) > 1:
        raise InputFault("animated", "The picture has more than one frame.")


def _too_many(max_pixels: int) -> str:
    return f"The picture has more than {max_pixels / 1e6:g} million pixels."


def _on_white(picture: Pillow.Image) -> Pillow.Image:
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        coloured = picture.convert("RGBA")
        white = Pillow.new("RGBA", coloured.size, "white")
        return Pillow.alpha_composite(white, coloured).convert("RGB")
    return picture.convert("RGB")


def check_same_shape(picture: Pillow.Image, mask: Pillow.Image) -> None:
    """A mask of another shape than its picture would repaint the wrong place. Raises InputFault."""
    ratio = (picture.width / picture.height) / (mask.width / mask.height)
    if abs(ratio - 1) > _SAME_SHAPE:
        sides = f"{mask.width}x{mask.height} and {picture.width}x{picture.height}"
        raise InputFault("size_mismatch", f"Mask and picture must have the same shape; they have {sides} pixels.")


def area_mask(size: tuple[int, int], area: tuple[int, int, int, int]) -> Pillow.Image:
    """A mask that is white in the rectangle (left, top, width, height) of a picture of that size."""
    left, top, width, height = area
    if left + width > size[0] or top + height > size[1]:
        raise InputFault("out_of_range", f"The area must lie in the picture, which has {size[0]}x{size[1]} pixels.")
    mask = Pillow.new("L", size, 0)
    mask.paste(255, (left, top, left + width, top + height))
    return mask


def fitted_size(picture: Pillow.Image, *, low: int, high: int, step: int) -> tuple[int, int]:
    """The size for a task that names none: the picture's own, brought between `low` and `high`, in multiples of
    `step`.
    """
    scale = min(1.0, high / max(picture.size))
    scale = max(scale, low / min(picture.size))
    sides = (round(side * scale / step) * step for side in picture.size)
    width, height = (min(max(side, low), high) for side in sides)
    return width, height


def prepared(role: str, picture: Pillow.Image, size: tuple[int, int], *, feather: int = 0) -> InputPicture:
    """The picture at the task's size: its middle, cut to the task's shape. A mask is grey, its edge soft over `feather`
    pixels.
    """
    if role == "mask":
        grey = ImageOps.fit(picture.convert("L"), size, Pillow.Resampling.BILINEAR)
        picture = _feathered(grey, feather)
    else:
        picture = ImageOps.fit(picture, size, Pillow.Resampling.LANCZOS)
    written = io.BytesIO()
    picture.save(written, "PNG", compress_level=_PNG_EFFORT)
    return InputPicture(role, written.getvalue())


def _feathered(mask: Pillow.Image, feather: int) -> Pillow.Image:
    return mask.filter(ImageFilter.GaussianBlur(feather / 2)) if feather else mask
