"""Encodes WebP, AVIF, PNG and JPEG files with colour profile and metadata.

The quality comes with the Output of a recipe (recipe.py); where a request names none, from quality.py.
"""

import hashlib
import io
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from postprocessing import metadata, thumbnails
from postprocessing.arrays import Picture
from postprocessing.decoding import decode
from postprocessing.metadata import Notes
from postprocessing.provenance import SignerConfig, sign
from postprocessing.recipe import Output
from postprocessing.similarity import INDISTINGUISHABLE, plain_jpeg, ssim

CONTENT_TYPES = {"webp": "image/webp", "avif": "image/avif", "png": "image/png", "jpeg": "image/jpeg"}
_SLOW_AVIF_PIXELS = 1 << 20  # up to this size AVIF is encoded at the slower speed
_PROFILE_DATE = slice(24, 36)  # bytes of an ICC profile with its creation date


@dataclass(frozen=True)
class Encoded:
    """A finished file. `width` and `height` in pixels, `sha256` in hex."""

    data: bytes
    content_type: str
    width: int
    height: int
    sha256: str


def encode(
    image: Picture,
    output: Output,
    notes: Notes | None = None,
    *,
    signer: SignerConfig | None = None,
    fast: bool = False,
) -> Encoded:
    """The same picture, output and notes give the same bytes, unless the file is signed.

    `signer` is used if the output asks for provenance. `fast`: half the time for 4 % more bytes (WebP). Raises
    ProvenanceUnavailable.
    """
    extra = _metadata_options(output, notes) if output.metadata != "none" else {}
    if fast:
        extra["method"] = 2
    data = (_encode_auto if output.auto else _encode)(image, output, extra)
    if output.provenance:
        data = sign(data, CONTENT_TYPES[output.format], signer, edited=bool(notes and notes.edited))
    digest = hashlib.sha256(data).hexdigest()
    return Encoded(data, CONTENT_TYPES[output.format], image.shape[1], image.shape[0], digest)


def shrink(image: Picture, side: int) -> Picture:
    """Scale the longer side down to `side` pixels; smaller pictures are unchanged."""
    height, width = image.shape[:2]
    if max(height, width) <= side:
        return image
    small = Image.fromarray(image)
    thumbnails.shrink(small, side)
    return np.array(small)


@cache
def srgb_profile() -> bytes:
    """The sRGB profile of LittleCMS with its date zeroed, so that equal pictures give equal files."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[_PROFILE_DATE] = bytes(12)
    return bytes(profile)


def _encode_auto(image: Picture, output: Output, extra: dict[str, Any]) -> bytes:
    """The lowest quality whose SSIM reaches that of a JPEG 90, or INDISTINGUISHABLE, found by bisection; lossless WebP
    if that is smaller still (flat drawings).
    """
    bound = min(ssim(image, decode(plain_jpeg(image))), INDISTINGUISHABLE)
    low, high = 1, 100
    best = _encode(image, replace(output, quality=100), extra)
    while low < high:
        middle = (low + high) // 2
        tried = _encode(image, replace(output, quality=middle), extra)
        if ssim(image, decode(tried)) >= bound:
            best, high = tried, middle
        else:
            low = middle + 1
    if output.format != "webp":
        return best
    exact = _encode(image, replace(output, lossless=True), extra)
    return exact if len(exact) < len(best) or ssim(image, decode(best)) < bound else best


def _encode(image: Picture, output: Output, extra: dict[str, Any]) -> bytes:
    options = _OPTIONS[output.format](output, image.shape[0] * image.shape[1]) | extra
    return _save(Image.fromarray(image), output.format.upper(), options)


def _save(image: Image.Image, form: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    try:
        image.save(buffer, form, **options)
    except OSError:
        # Pillow's buffer for a progressive JPEG has one byte per pixel; noise can need more. A baseline JPEG is
        # streamed.
        if not options.get("progressive"):
            raise
        return _save(image, form, options | {"progressive": False, "optimize": False})
    return buffer.getvalue()


def _metadata_options(output: Output, notes: Notes | None) -> dict[str, Any]:
    """Pillow's save options for profile and metadata."""
    options: dict[str, Any] = {"icc_profile": srgb_profile()} if output.icc else {}
    packet = metadata.xmp(notes.edited if notes else False)
    full = notes if output.metadata == "full" and notes and notes.steps else None
    if output.format != "png":
        options["xmp"] = packet
        if full:
            options["exif"] = metadata.exif(metadata.for_jpeg(full) if output.format == "jpeg" else full)
        return options
    chunks = PngInfo()
    if full:
        chunks.add_itxt("parameters", metadata.parameters_text(full))
    chunks.add_itxt("XML:com.adobe.xmp", packet.decode())
    return options | {"pnginfo": chunks}


def _webp(output: Output, _: int) -> dict[str, Any]:
    return {"quality": 75 if output.lossless else output.quality, "lossless": output.lossless, "method": 4}


def _avif(output: Output, pixels: int) -> dict[str, Any]:
    # Tuned for SSIM. At the same SSIM speed 5 needs 8 % fewer bytes than speed 6, for 4 times its time; slower ones
    # gain little more (docs/postprocessing.md).
    return {
        "quality": output.quality,
        "codec": "aom",
        "speed": 5 if pixels <= _SLOW_AVIF_PIXELS else 6,
        "advanced": {"tune": "ssim"},
        "subsampling": "4:4:4" if output.quality >= 90 else "4:2:0",
    }


def _png(output: Output, _: int) -> dict[str, Any]:
    return {"compress_level": 6}


def _jpeg(output: Output, _: int) -> dict[str, Any]:
    subsampling = "4:4:4" if output.quality >= 90 and not output.auto else "4:2:0"
    return {"quality": output.quality, "subsampling": subsampling, "optimize": True, "progressive": True}


_OPTIONS = {"webp": _webp, "avif": _avif, "png": _png, "jpeg": _jpeg}
