"""Pictures that clients send with a request: from a URL, an upload or base64.

    where it comes from      bounded by
    URL                      fetched before (generation/api/bounds/fetching.py): public addresses only, few redirects,
                             MAX_INPUT_BYTES, INPUT_TIMEOUT_S
    upload, base64, data:    MAX_BODY_BYTES of the request, MAX_INPUT_BYTES of the picture

`postprocessing.client_pictures` reads them, whatever their role and door. Alpha is laid on white, a mask's is read as
its door does (generation/api/bounds/masks.py). A picture is brought to the task's size and stored as PNG, so nothing of
the client's file but its pixels goes further.
"""

import io
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from django.core.files.uploadedfile import UploadedFile
from PIL import Image as Pillow
from PIL import ImageFilter, ImageOps

from imagegenx_site.errors import Fault
from imagegenx_site.http.outbound import url_problem
from postprocessing.client_pictures import ClientPicture, PictureFault, decoded_text, is_data_url, read_picture

_MIN_SIDE: Final = 8  # pixels
_SAME_SHAPE: Final = 0.02  # relative difference of two aspect ratios that still counts as the same shape
_PNG_EFFORT: Final = 1  # these files live for one task: speed counts, size does not

Sent = str | bytes | UploadedFile  # base64 or an address; what was fetched; an upload


class MaskRule(Enum):
    """Which part of a mask is painted (generation/api/bounds/masks.py)."""

    WHITE = "white"
    TRANSPARENT = "transparent"
    OPAQUE = "opaque"


@dataclass(frozen=True)
class GivenMask:
    """A mask as a client sent it, with the rule of the door that it came through."""

    sent: Sent
    rule: MaskRule
    inverted: bool = False


Given = Sent | GivenMask


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
    """A picture ready for the store: PNG of exactly the task's size. `warning`: what its sender should know."""

    role: str
    data: bytes
    warning: str = ""


def form_fault(given: Given) -> str | None:
    """What is wrong with the way a picture is given, as far as it shows without fetching or decoding it."""
    if isinstance(given, GivenMask):
        return form_fault(given.sent)
    if isinstance(given, UploadedFile):
        return "The uploaded file is empty." if not given.size else None
    if isinstance(given, bytes):
        return None
    if is_address(given):
        fault = url_problem(given)
        return f"This address can't be fetched: {fault}." if fault else None
    if "://" in given[:20] and not is_data_url(given):
        return "Give an http:// or https:// address, or the picture in base64."
    return None


def is_address(sent: Sent) -> bool:
    """Whether it must be fetched before it can be loaded."""
    return isinstance(sent, str) and sent[:8].lower().startswith(("http://", "https://"))


def _sent(given: Given) -> Sent:
    return given.sent if isinstance(given, GivenMask) else given


def address_of(given: Given) -> str | None:
    """Where the picture must be fetched from before it can be loaded; None for one that is here."""
    sent = _sent(given)
    return sent if isinstance(sent, str) and is_address(sent) else None


def with_content(given: Given, data: bytes) -> Given:
    """The same with what was fetched."""
    return replace(given, sent=data) if isinstance(given, GivenMask) else data


def load(given: Given, limits: InputLimits) -> ClientPicture:
    """The picture, upright, RGB or RGBA. Raises InputFault."""
    data = _bytes_of(_sent(given), limits)
    if len(data) > limits.max_bytes:
        raise InputFault("too_large", f"The picture has more than {limits.max_bytes >> 20} MiB.")
    try:
        return read_picture(data, max_pixels=limits.max_pixels, min_side=_MIN_SIDE)
    except PictureFault as fault:
        raise InputFault(fault.code, str(fault)) from fault


def _bytes_of(given: Sent, limits: InputLimits) -> bytes:
    if isinstance(given, UploadedFile):
        given.seek(0)
        return given.read(limits.max_bytes + 1)
    if isinstance(given, bytes):
        return given
    if is_address(given):
        raise InputFault("not_fetched", "The picture was not fetched.")
    longest = 3 if is_data_url(given) else 4 / 3  # characters a byte: percent-encoded, base64
    if len(given) > limits.max_bytes * longest + 1000:
        raise InputFault("too_large", f"The picture has more than {limits.max_bytes >> 20} MiB.")
    try:
        return decoded_text(given)
    except ValueError as error:
        raise InputFault("malformed", "This is neither an address nor base64.") from error


def on_white(picture: Pillow.Image) -> Pillow.Image:
    """RGB, with transparent parts white."""
    if picture.mode == "RGBA":
        return Pillow.alpha_composite(Pillow.new("RGBA", picture.size, "white"), picture).convert("RGB")
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


def prepared(
    role: str, picture: Pillow.Image, size: tuple[int, int], *, feather: int = 0, animated: bool = False
) -> InputPicture:
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
    warning = f"the {role} picture is an animation: its first frame was taken" if animated else ""
    return InputPicture(role, written.getvalue(), warning)


def _feathered(mask: Pillow.Image, feather: int) -> Pillow.Image:
    return mask.filter(ImageFilter.GaussianBlur(feather / 2)) if feather else mask
