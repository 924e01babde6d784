"""Watermarks as frozen values, and their reading from JSON (docs/postprocessing.md has the form)."""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from imagegenx_site.errors import Fault
from imagegenx_site.schema import Boolean, Choice, Color, Field, Number, Object, Pair, Tagged, Text, tagged

POSITIONS: Final = ("top-left", "top", "top-right", "left", "center", "right", "bottom-left", "bottom", "bottom-right")
LARGEST_MARK_BYTES: Final = 1 << 20
_FILLERS: Final = "\u115f\u1160\u2800\u3164\uffa0"  # letters by their category, drawn as nothing
OUTLINE: Final = 0.06  # of a line's height: white words are read on the white ground of a product shot too


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


@dataclass(frozen=True)
class _VisibleText(Text):
    """A text of which something can be seen."""

    def read(self, value: Any, path: str, faults: list[Fault]) -> str | None:
        text = super().read(value, path, faults)
        if text is not None and not any(map(_is_drawn, text)):
            faults.append(Fault(path, "blank", "Give a text with at least one character that can be seen."))
            return None
        return text


def _is_drawn(sign: str) -> bool:
    """Whether a character leaves ink: no space, mark of direction, control or filler."""
    return unicodedata.category(sign)[0] not in "ZC" and sign not in _FILLERS


@dataclass(frozen=True)
class _PictureText(Text):
    """The base64 of a picture (also as a data: URL), read as its bytes."""

    def read(self, value: Any, path: str, faults: list[Fault]) -> bytes | None:
        from postprocessing.client_pictures import decoded_text
        from postprocessing.decoding import is_readable_picture

        bare = "".join(value.split()) if isinstance(value, str) else value  # without line breaks
        encoded = super().read(bare, path, faults)
        if encoded is None:
            return None
        try:
            data = decoded_text(encoded)
        except ValueError:
            data = b""
        if is_readable_picture(data):
            return data
        faults.append(Fault(path, "invalid", "Give the base64 of a PNG, WebP or JPEG of at most 4096 by 4096 pixels."))
        return None


_PLACE: Final[Mapping[str, Field]] = {
    "position": Choice(POSITIONS),
    "offset": Pair(0.5),
    "opacity": Number(0.05, 1.0),
}
_TILES: Final[Mapping[str, Field]] = {
    "tile": Boolean(),
    "spacing": Number(0.0, 4.0),
    "rotation": Number(-180.0, 180.0),
}
_WORDS: Final[Mapping[str, Field]] = {
    "text": _VisibleText(200, required=True),
    "font": Text(100),
    "size": Number(0.01, 0.5),
    "color": Color(),
    "outline": Number(0.0, 0.2),
    "outline_color": Color(),
}
_SCALE: Final[Mapping[str, Field]] = {"scale": Number(0.02, 1.0)}


def _built(mark: Callable[..., Mark], opacity: float = 1.0) -> Callable[[dict[str, Any]], Mark]:
    """Makes the mark of its fields; `opacity` is the kind's own default."""

    def build(values: dict[str, Any]) -> Mark:
        place = {name: values[name] for name in (*_PLACE, *_TILES) if name in values}
        rest = {name: value for name, value in values.items() if name not in place and name != "kind"}
        return mark(place=Placement(**{"opacity": opacity, **place}), **rest)

    return build


MARK: Final = Tagged(
    "kind",
    {
        "text": Object({**tagged("kind", "text"), **_WORDS, **_PLACE, **_TILES}, _built(TextMark, opacity=0.5)),
        "qr": Object(
            {**tagged("kind", "qr"), "text": Text(300, in_bytes=True, required=True), **_SCALE, **_PLACE},
            _built(QrMark),
        ),
        "image": Object(
            {
                **tagged("kind", "image"),
                "image": _PictureText(LARGEST_MARK_BYTES * 4 // 3 + 200, required=True),
                **_SCALE,
                **_PLACE,
                **_TILES,
            },
            _built(ImageMark),
        ),
    },
)
