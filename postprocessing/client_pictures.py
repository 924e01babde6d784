"""Reads the pictures that clients send, for every door and role: input pictures, masks, control pictures, logos.

The content decides what a picture is, never a name or a header: PNG, JPEG or WebP. What comes out has 8 bits a channel
in sRGB, stands upright, and is RGBA where the file has transparency, else RGB:

    16 bits              scaled to 255
    colour profile       turned to sRGB; one that can't be used is ignored
    EXIF orientation     turned
    several frames       the first is taken
    too many pixels      refused by the header, before anything is decoded
    too many pieces      refused before Pillow sees it (picture_structure.py)

Pillow only: the web process reads pictures, too.
"""

import base64
import binascii
import io
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageCms, PngImagePlugin, UnidentifiedImageError

from postprocessing import picture_structure

FORMATS: Final = ("PNG", "JPEG", "WEBP")
PngImagePlugin.MAX_TEXT_MEMORY = 4 << 20  # bytes of a file's texts, unpacked: 64 MiB take half a second
warnings.filterwarnings("ignore", module=r"PIL\.")  # a line in the log for each of a file's thousands of faults
_ORIENTATION: Final = 0x0112  # EXIF tag
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LEVELS: Final = 65536  # of 16 bits
_SCAN: Final = b"\xff\xda"  # begins a scan of a JPEG
_MOST_SCANS: Final = 100  # a progressive JPEG has about ten; each costs a pass over all pixels
_PROFILE_SPACES: Final = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # a profile's colour space -> Pillow's mode
_DATA_URL: Final = re.compile(r"\s*data:([^,]*),(.*)", re.IGNORECASE | re.DOTALL)
_BASE64: Final = re.compile(r";\s*base64\s*$", re.IGNORECASE)
_DAMAGED: Final = (
    OSError,
    ValueError,
    SyntaxError,
    MemoryError,
    EOFError,
    struct.error,
    IndexError,
    KeyError,
    TypeError,
)


class PictureFault(ValueError):
    """The picture can't be used; `code` is a machine's word for the reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(frozen=True)
class ClientPicture:
    """RGB or RGBA, and whether it is the first frame of an animation."""

    picture: Image.Image
    animated: bool = False


def is_data_url(text: str) -> bool:
    return text[:100].lstrip()[:5].lower() == "data:"


def decoded_text(text: str) -> bytes:
    """The bytes that a client gives as text: base64, with or without line breaks and padding, or a data: URL in any
    form of RFC 2397. Raises ValueError.
    """
    found = _DATA_URL.match(text) if is_data_url(text) else None
    if found is None:
        return _from_base64(text)
    data = _unquoted(found[2].encode()) if "%" in found[2] else found[2].encode()
    return _from_base64(data.decode("ascii")) if _BASE64.search(found[1]) else data


def _unquoted(text: bytes) -> bytes:
    """Percent-encoding undone. It is quoted-printable with another sign, and that is read in C: what urllib does in
    Python keeps the interpreter for 12 s where 20 MiB are written so.
    """
    return binascii.a2b_qp(text.translate(None, b"\r\n").replace(b"=", b"=3D").replace(b"%", b"="))


def _from_base64(text: str) -> bytes:
    packed = "".join(text.split()).rstrip("=")
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("This is not base64.") from error


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """The file's head, read by Pillow: nothing is decoded yet. Raises PictureFault, and what Pillow raises."""
    if picture_structure.is_too_intricate(data):
        raise PictureFault("not_a_picture", "The picture's file has more parts than a picture needs.")
    with Image.open(io.BytesIO(data), formats=FORMATS) as file:
        yield file


def read_picture(data: bytes, *, max_pixels: int, min_side: int = 1) -> ClientPicture:
    """The picture of a client's file. Raises PictureFault."""
    try:
        with opened(data) as file:
            _check_header(file, data, max_pixels, min_side)
            frames, several = getattr(file, "n_frames", 1), file.format == "MPO"  # a phone's JPEG with a depth picture
            file.load()
            return ClientPicture(_upright(_in_srgb(file), file), animated=frames > 1 and not several)
    except PictureFault:
        raise
    except UnidentifiedImageError as error:
        raise PictureFault("not_a_picture", f"The content is no {', '.join(FORMATS)} picture.") from error
    except Image.DecompressionBombError as error:
        raise _too_many(max_pixels) from error
    except _DAMAGED as error:
        raise PictureFault("not_a_picture", "The picture is damaged.") from error


def _check_header(file: Image.Image, data: bytes, max_pixels: int, min_side: int) -> None:
    if file.width * file.height > max_pixels:
        raise _too_many(max_pixels)
    if min(file.size) < min_side:
        raise PictureFault("too_small", f"The picture must have at least {min_side} pixels a side.")
    if file.format in ("JPEG", "MPO") and data.count(_SCAN) > _MOST_SCANS:
        raise PictureFault("not_a_picture", f"The JPEG has more than {_MOST_SCANS} scans.")


def _too_many(max_pixels: int) -> PictureFault:
    return PictureFault("too_many_pixels", f"The picture has more than {max_pixels / 1e6:g} million pixels.")


def _in_srgb(file: Image.Image) -> Image.Image:
    """RGB or RGBA, 8 bits, sRGB."""
    alpha = _alpha(file)
    plain = _eight_bits(file)
    colours = _profiled(plain, file.info.get("icc_profile"))
    if alpha is not None:
        colours.putalpha(alpha)
    return colours


def _alpha(file: Image.Image) -> Image.Image | None:
    if file.mode.startswith("I"):  # 16-bit grey: one level may stand for transparent
        clear = file.info.get("transparency")
        return None if clear is None else _by_level(file, [0 if level == clear else 255 for level in range(_LEVELS)])
    if file.mode == "RGB" and isinstance(clear := file.info.get("transparency"), tuple) and max(clear) > 255:
        file.info["transparency"] = tuple(level >> 8 for level in clear)  # of a 16-bit PNG, which Pillow reads as 8
    return file.convert("RGBA").getchannel("A") if file.has_transparency_data else None


def _eight_bits(file: Image.Image) -> Image.Image:
    """L, RGB or CMYK, without alpha."""
    if file.mode.startswith("I"):
        return _by_level(file, [(level * 255 + 32767) // 65535 for level in range(_LEVELS)])
    if file.mode in ("1", "L", "LA", "La"):
        plain = file.convert("LA").getchannel("L")  # not L at once: Pillow would mix a clear level into it
    elif file.mode == "CMYK":
        plain = file.copy()
    else:
        plain = file.convert("RGBA").convert("RGB")
    plain.info.pop("transparency", None)
    return plain


def _by_level(file: Image.Image, table: list[int]) -> Image.Image:
    """A 16-bit grey picture in 8 bits, each level as the table says."""
    return file.convert("I").point(table, "L")


def _profiled(plain: Image.Image, profile: bytes | None) -> Image.Image:
    """In RGB, its numbers turned from the profile's colours to sRGB's."""
    if not profile:
        return plain.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _PROFILE_SPACES[source.profile.xcolor_space]
        if (mode == "CMYK") != (plain.mode == "CMYK") or (mode == "L" and plain.mode == "RGB"):
            return plain.convert("RGB")
        turned = ImageCms.profileToProfile(
            plain.convert(mode), source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, KeyError, OSError, ValueError, TypeError):
        return plain.convert("RGB")
    return turned if turned is not None else plain.convert("RGB")


def _upright(picture: Image.Image, file: Image.Image) -> Image.Image:
    try:
        orientation = file.getexif().get(_ORIENTATION)
    except _DAMAGED:  # a note that can't be read says nothing about the pixels
        orientation = None
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return picture if turn is None else picture.transpose(turn)
