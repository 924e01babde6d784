"""Watermarks as frozen values, and their reading from JSON (docs/postprocessing.md has the form)."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from postprocessing.fields import Fault, Fields, pair_or_fault

POSITIONS = ("top-left", "top", "top-right", "left", "center", "right", "bottom-left", "bottom", "bottom-right")
LARGEST_MARK_BYTES = 1 << 20
OUTLINE = 0.06  # of a line's height: white words are read on the white ground of a product shot too


@dataclass(frozen=True)
class Placement:
    """Where a watermark stands. `offset` and `spacing` are parts (of the picture's sides; of the mark's size),
    `rotation` degrees.
    """

    position: str = "bottom-right"
    offset: tuple[float, float] = (0.02, 0.02)
    opacity: float = 1.0
    tile: bool = False
    spacing: float = 1.0
    rotation: float = 0.0


@dataclass(frozen=True)
class TextMark:
    """Words. `size` is the line height as a part of the shorter side, `outline` a part of the line height."""

    text: str
    place: Placement
    font: str = ""
    size: float = 0.05
    color: tuple[int, int, int] = (255, 255, 255)
    outline: float = OUTLINE
    outline_color: tuple[int, int, int] = (0, 0, 0)


@dataclass(frozen=True)
class QrMark:
    """A QR code that says `text`; `scale` is its side as a part of the picture's shorter side."""

    text: str
    place: Placement
    scale: float = 0.2


@dataclass(frozen=True)
class ImageMark:
    """A logo: the bytes of a PNG, WebP or JPEG; `scale` is its longer side as a part of the picture's shorter side."""

    image: bytes
    place: Placement
    scale: float = 0.2


Mark = TextMark | QrMark | ImageMark


def read_marks(value: Any, path: str, faults: list[Fault]) -> tuple[Mark, ...]:
    if not isinstance(value, list):
        return tuple(mark for mark in [_read_mark(value, path, faults)] if mark)
    if not 1 <= len(value) <= 4:
        faults.append(Fault(path, "out_of_range", f"It has {len(value)} watermarks; it may have 1 to 4."))
        return ()
    marks = [_read_mark(item, f"{path}[{index}]", faults) for index, item in enumerate(value)]
    return tuple(mark for mark in marks if mark)


def _read_mark(value: Any, path: str, faults: list[Fault]) -> Mark | None:
    fields = Fields(value, path, faults)
    if not isinstance(value, Mapping):
        return None
    kind = fields.choice("kind", ("text", "qr", "image"), None, required=True)
    if kind is None:
        return None
    place = Placement(
        position=fields.choice("position", POSITIONS, "bottom-right"),
        offset=fields.other("offset", lambda pair, at, noted: pair_or_fault(pair, at, 0.5, noted), (0.02, 0.02)),
        opacity=fields.number("opacity", 0.05, 1.0, 0.5 if kind == "text" else 1.0),
    )
    if kind != "qr":
        place = replace(
            place,
            tile=fields.boolean("tile", False),
            spacing=fields.number("spacing", 0.0, 4.0, 1.0),
            rotation=fields.number("rotation", -180.0, 180.0, 0.0),
        )
    mark = {"text": _read_text_mark, "qr": _read_qr_mark, "image": _read_image_mark}[kind](fields, place)
    fields.finish()
    return mark


def _read_text_mark(fields: Fields, place: Placement) -> Mark:
    return TextMark(
        text=fields.text("text", 200, "", required=True),
        place=place,
        font=fields.text("font", 100, ""),
        size=fields.number("size", 0.01, 0.5, 0.05),
        color=fields.color("color", "#FFFFFF"),
        outline=fields.number("outline", 0.0, 0.2, OUTLINE),
        outline_color=fields.color("outline_color", "#000000"),
    )


def _read_qr_mark(fields: Fields, place: Placement) -> Mark:
    return QrMark(
        fields.text("text", 300, "", required=True, in_bytes=True), place, fields.number("scale", 0.02, 1.0, 0.2)
    )


def _read_image_mark(fields: Fields, place: Placement) -> Mark:
    from postprocessing.decoding import is_readable_picture

    encoded = fields.text("image", LARGEST_MARK_BYTES * 4 // 3 + 4, "", required=True)
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if encoded and not is_readable_picture(data):
        fields.invalid("image", "Give the base64 of a PNG, WebP or JPEG of at most 4096 by 4096 pixels.")
    return ImageMark(data, place, fields.number("scale", 0.02, 1.0, 0.2))
