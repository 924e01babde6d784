"""Draws watermarks: text, QR codes and logos, single or tiled over the picture."""

import math

import cv2
import numpy as np
from PIL import Image, ImageDraw

from postprocessing.arrays import Picture
from postprocessing.decoding import decode_mark
from postprocessing.errors import MarkTooLarge
from postprocessing.watermark_form import ImageMark, Mark, Placement, QrMark, TextMark
from postprocessing.watermark_text import set_text

_MIN_MODULE = 3  # pixels per module of a QR code; fewer do not survive lossy compression
_QUIET_ZONE = 4  # modules of white that the standard asks for around a QR code


def apply_watermarks(image: Picture, marks: tuple[Mark, ...]) -> Picture:
    """Draws the marks in their order. Raises FontMissing, MarkTooLarge."""
    if not marks:
        return image
    canvas = image.copy()
    for mark in marks:
        stamp = make_stamp(mark, canvas.shape[1], canvas.shape[0])
        for x, y in _places(stamp.size, mark.place, canvas.shape[1], canvas.shape[0]):
            _blend(canvas, stamp, x, y, mark.place.opacity)
    return canvas


def make_stamp(mark: Mark, width: int, height: int) -> Image.Image:
    """The mark alone (RGBA, rotated, without its opacity), sized for a picture of `width` x `height` pixels."""
    if isinstance(mark, QrMark):
        return _qr_stamp(mark, width, height)
    stamp = _text_stamp(mark, width, height) if isinstance(mark, TextMark) else _image_stamp(mark, width, height)
    if mark.place.rotation:
        stamp = stamp.rotate(mark.place.rotation, Image.Resampling.BICUBIC, expand=True)
    return stamp


def _text_stamp(mark: TextMark, width: int, height: int) -> Image.Image:
    """Text in `mark.size`, or smaller or in lines so that it fits into the picture."""
    setting = set_text(mark, width, height)
    text, font, stroke = setting.text, setting.font, setting.stroke
    left, top, right, bottom = setting.box
    # Letters and outline are drawn as coverage and coloured afterwards: edges fade into transparency, not into black.
    origin = (-math.floor(left), -math.floor(top))
    box = (math.ceil(right) + origin[0], math.ceil(bottom) + origin[1])
    letters = Image.new("L", box)
    ImageDraw.Draw(letters).multiline_text(origin, text, 255, font, align="center")
    if not stroke:
        return _colored(letters, mark.color)
    outlined = Image.new("L", box)
    ImageDraw.Draw(outlined).multiline_text(origin, text, 255, font, align="center", stroke_width=stroke)
    stamp = _colored(outlined, mark.outline_color)
    stamp.paste(Image.new("RGB", box, mark.color), (0, 0), letters)
    stamp.putalpha(outlined)
    return stamp


def _image_stamp(mark: ImageMark, width: int, height: int) -> Image.Image:
    logo = decode_mark(mark.image)
    factor = mark.scale * min(width, height) / max(logo.size)
    size = (max(1, round(logo.width * factor)), max(1, round(logo.height * factor)))
    # Resizing with premultiplied alpha keeps the colour of transparent pixels out of the edges.
    return logo.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")


def _qr_stamp(mark: QrMark, width: int, height: int) -> Image.Image:
    """Black modules on white with the quiet zone, whole pixels per module."""
    modules = qr_modules(mark.text)
    side = min(width, height)
    per_module = min(max(_MIN_MODULE, round(mark.scale * side / len(modules))), side // len(modules))
    if per_module < _MIN_MODULE:
        raise MarkTooLarge(
            f"This QR code needs {_MIN_MODULE * len(modules)} pixels; the picture is {width} x {height}. "
            "Shorten its text."
        )
    sharp = np.kron(modules, np.ones((per_module, per_module), np.uint8))
    return Image.fromarray(sharp).convert("RGBA")


def qr_modules(text: str) -> np.ndarray:
    """The QR code as a square of modules (uint8, 0 black, 255 white) with its quiet zone; error correction M (15 %)."""
    parameters = cv2.QRCodeEncoder_Params()  # type: ignore[attr-defined]  # cv2's stubs lack it
    parameters.correction_level = cv2.QRCODE_ENCODER_CORRECT_LEVEL_M
    modules = cv2.QRCodeEncoder_create(parameters).encode(text)  # type: ignore[attr-defined]
    dark = np.flatnonzero((modules == 0).any(axis=0))
    code = modules[dark[0] : dark[-1] + 1, dark[0] : dark[-1] + 1]
    return np.pad(code, _QUIET_ZONE, constant_values=255)


def _places(size: tuple[int, int], place: Placement, width: int, height: int) -> list[tuple[int, int]]:
    """Positions of the stamp's top left corner: one, or rows of tiles, every other one shifted by half a tile."""
    if not place.tile:
        x = _start(place.position, "left", "right", size[0], width, place.offset[0])
        y = _start(place.position, "top", "bottom", size[1], height, place.offset[1])
        return [(x, y)]
    step_x = max(1, round(size[0] * (1 + place.spacing)))
    step_y = max(1, round(size[1] * (1 + place.spacing)))
    return [
        (x, y)
        for row, y in enumerate(range(-size[1] // 2, height, step_y))
        for x in range(-size[0] // 2 - (row % 2) * (step_x // 2), width, step_x)
    ]


def _start(position: str, low: str, high: str, size: int, room: int, offset: float) -> int:
    """The start on one axis, inside the picture if the stamp fits."""
    if low in position:
        start = round(offset * room)
    elif high in position:
        start = room - size - round(offset * room)
    else:
        return (room - size) // 2
    return min(max(start, 0), max(room - size, 0))


def _blend(canvas: Picture, stamp: Image.Image, x: int, y: int, opacity: float) -> None:
    """Draw the stamp onto the canvas, in place; it is cropped at the edges."""
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + stamp.width, canvas.shape[1]), min(y + stamp.height, canvas.shape[0])
    if right <= left or bottom <= top:
        return
    part = np.asarray(stamp)[top - y : bottom - y, left - x : right - x].astype(np.float32)
    weight = part[:, :, 3:] * (opacity / 255.0)
    under = canvas[top:bottom, left:right]
    under[:] = np.rint(under * (1.0 - weight) + part[:, :, :3] * weight).astype(np.uint8)


def _colored(coverage: Image.Image, color: tuple[int, int, int]) -> Image.Image:
    stamp = Image.new("RGBA", coverage.size, (*color, 255))
    stamp.putalpha(coverage)
    return stamp
