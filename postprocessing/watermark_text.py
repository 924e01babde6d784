"""How the words of a watermark are set: in which lines and how large. Pillow only: the web process asks, too, whether
a text will be readable.

The size that was asked for is taken if the text fits into the picture. A line that is a little too long is made
smaller, a longer text is broken into lines, and both until the letters would be under `LEAST_LETTERS`: then it is
refused.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from postprocessing.errors import FontMissing, MarkTooLarge
from postprocessing.fonts import find_font
from postprocessing.watermark_form import Mark, TextMark

LEAST_LETTERS = 8.0  # pixels of a line; smaller letters are illegible
_LEAST_IN_ONE_LINE = 12.0  # pixels, to which a line is made smaller rather than broken
_SMALLEST_PART = 0.6  # of the size that was asked for, the same
_WIDTHS = (1.0, 0.8, 0.6, 0.45, 0.3, 0.2)  # of the room, to which lines are broken: turned text needs narrower ones
_PROBE = 16.0  # pixels of a line, at which it is looked whether there is anything to see
_STEP = 0.92  # from one size that is tried to the next

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Setting:
    """The text in its lines, `box` around it (left, top, right, bottom in pixels, outline included)."""

    text: str
    font: ImageFont.FreeTypeFont
    stroke: float
    box: Box


@lru_cache(64)
def set_text(mark: TextMark, width: int, height: int) -> Setting:
    """The largest setting up to `mark.size` that fits into a picture of `width` x `height` pixels, turned as the mark
    is. Raises FontMissing, and MarkTooLarge when the letters would be too small or when there is nothing to see.
    """
    if not _has_ink(_setting(mark, mark.text, _PROBE)):
        raise MarkTooLarge("The text of this watermark has nothing that can be seen.")
    wish = max(LEAST_LETTERS, mark.size * min(width, height))
    whole = _setting(mark, mark.text, wish)
    fit = _fit(whole.box, mark.place.rotation, width, height)
    if fit >= 1:
        return whole
    size = wish * fit * 0.98
    if size >= max(LEAST_LETTERS, min(_LEAST_IN_ONE_LINE, wish), wish * _SMALLEST_PART):
        return _setting(mark, mark.text, size)
    return _broken(mark, wish, width, height)


def unreadable(marks: Sequence[Mark], width: int, height: int) -> dict[int, str]:
    """Why the texts among these marks could not be read in a picture of that size, by their number."""
    found = {}
    for number, mark in enumerate(marks):
        if isinstance(mark, TextMark):
            try:
                set_text(mark, width, height)
            except MarkTooLarge as error:
                found[number] = str(error)
            except FontMissing:
                continue  # the workers may have more fonts than the process that asks
    return found


def _broken(mark: TextMark, size: float, width: int, height: int) -> Setting:
    font = find_font(mark.text, mark.font).load(_PROBE)
    advances = {sign: font.getlength(sign) / _PROBE for sign in {*mark.text} - {"\n"}}  # parts of a line's height
    turned = mark.place.rotation % 180 != 0
    reach = math.hypot(width, height) if turned else width
    while size >= LEAST_LETTERS:
        for part in _WIDTHS if turned else _WIDTHS[:1]:
            lines = _lines(mark.text, advances, part * reach / size - 2 * mark.outline)
            if len(lines) * size > math.hypot(width, height):
                break  # narrower ones would be still higher
            setting = _setting(mark, "\n".join(lines), size)
            if _fit(setting.box, mark.place.rotation, width, height) >= 1:
                return setting
        size = max(size * _STEP, LEAST_LETTERS) if size > LEAST_LETTERS else 0
    raise MarkTooLarge(
        f"This text does not fit into a picture of {width} x {height} pixels with letters of {LEAST_LETTERS:g} pixels. "
        "Shorten it, or ask for a larger picture."
    )


def _setting(mark: TextMark, text: str, size: float) -> Setting:
    font = find_font(mark.text, mark.font).load(size)
    stroke = mark.outline * size
    draw = ImageDraw.Draw(Image.new("L", (1, 1)))
    return Setting(text, font, stroke, draw.multiline_textbbox((0, 0), text, font, stroke_width=stroke, align="center"))


def _fit(box: Box, rotation: float, width: int, height: int) -> float:
    """The factor that makes a turned box just fit; 1 or more: it fits."""
    wide, high = box[2] - box[0], box[3] - box[1]
    sine, cosine = abs(math.sin(math.radians(rotation))), abs(math.cos(math.radians(rotation)))
    across, down = wide * cosine + high * sine, wide * sine + high * cosine
    return min(width / max(across, 1.0), height / max(down, 1.0))


def _has_ink(setting: Setting) -> bool:
    left, top, right, bottom = setting.box
    if right - left < 1 or bottom - top < 1:
        return False
    drawn = Image.new("L", (math.ceil(right - left), math.ceil(bottom - top)))
    ImageDraw.Draw(drawn).multiline_text((-left, -top), setting.text, 255, setting.font, align="center")
    return drawn.getbbox() is not None


def _lines(text: str, advances: Mapping[str, float], room: float) -> list[str]:
    """The text in lines no wider than `room`: broken after the last space that fits, else anywhere."""
    lines: list[str] = []
    for given in text.split("\n"):
        start, space, used = 0, 0, 0.0
        for at, sign in enumerate(given):
            if used + advances[sign] > room and at > start:
                end = space if space > start else at
                lines.append(given[start:end].rstrip())
                start, used = end, sum(advances[one] for one in given[end:at])
            used += advances[sign]
            space = at + 1 if sign == " " else space
        lines.append(given[start:])
    return lines
