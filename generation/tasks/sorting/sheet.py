"""Contact sheets: thumbnails side by side with their prompts, as one WebP, or as a PDF of A4 pages.

A thumbnail has at most 256 pixels a side, so that a sheet costs the same whatever the pictures' size is. Pillow only:
the web process makes them.
"""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from postprocessing.errors import FontMissing
from postprocessing.fonts import SHIPPED, find_font

TILE: Final = 256  # pixels a side: that of a thumbnail
MOST_COLUMNS: Final = 20
MOST_PIXELS: Final = 16_383  # a side of a WebP
GAP: Final = 16
_CAPTION: Final = 44  # pixels below a tile, for two lines
_LETTERS: Final = 15  # pixels of a line
_MOST_LETTERS: Final = 160  # of a caption, of which the two lines show as many as fit
_PAGE: Final = (1240, 1754)  # A4 at 150 dpi
_PAGE_COLUMNS: Final = 4
_DPI: Final = 150
_INK, _PAPER = "#1a1a22", "#ffffff"


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet. `read` gives its thumbnail's file, or raises what its store raises."""

    read: Callable[[], bytes]
    caption: str = ""


def least_columns(count: int, *, captions: bool = True) -> int:
    """Of a WebP with so many tiles: with fewer it would be too high for the format."""
    return math.ceil(count / ((MOST_PIXELS - GAP) // (_height_of_tile(captions=captions) + GAP)))


def _height_of_tile(*, captions: bool) -> int:
    return TILE + (_CAPTION if captions else 0)


def as_webp(tiles: Sequence[Tile], columns: int = 0, *, captions: bool = True) -> bytes:
    """One picture; without `columns` about as wide as high."""
    columns = min(columns or math.ceil(math.sqrt(len(tiles) * 1.2)), len(tiles))
    high = _height_of_tile(captions=captions)
    rows = math.ceil(len(tiles) / columns)
    size = (columns * (TILE + GAP) + GAP, rows * (high + GAP) + GAP)
    return _saved([_drawn(size, tiles, columns, captions)], "WEBP", quality=85, method=2)


def as_pdf(tiles: Sequence[Tile], *, captions: bool = True) -> bytes:
    """A4 pages."""
    high = _height_of_tile(captions=captions)
    each = _PAGE_COLUMNS * ((_PAGE[1] - GAP) // (high + GAP))
    parts = [tiles[start : start + each] for start in range(0, len(tiles), each)]
    pages = [_drawn(_PAGE, part, _PAGE_COLUMNS, captions) for part in parts]
    return _saved(pages, "PDF", resolution=_DPI, quality=90)


def _saved(pages: list[Pillow.Image], kind: str, **how: float) -> bytes:
    written = io.BytesIO()
    more = {"save_all": True, "append_images": pages[1:]} if kind == "PDF" else {}
    pages[0].save(written, kind, **more, **how)
    return written.getvalue()


def _drawn(size: tuple[int, int], tiles: Sequence[Tile], columns: int, captions: bool) -> Pillow.Image:
    font = _font_for(tiles) if captions else None
    sheet = Pillow.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    wide = (size[0] - GAP) // columns
    high = _height_of_tile(captions=captions) + GAP
    for number, tile in enumerate(tiles):
        left, top = GAP + number % columns * wide, GAP + number // columns * high
        side = wide - GAP
        with Pillow.open(io.BytesIO(tile.read()), formats=("WEBP", "PNG", "JPEG")) as file:
            picture = file.convert("RGB")
        picture.thumbnail((side, TILE))
        sheet.paste(picture, (left + (side - picture.width) // 2, top + (TILE - picture.height) // 2))
        for line, text in enumerate(_lines(tile.caption[:_MOST_LETTERS], side, font) if font else ()):
            pen.text((left, top + TILE + 4 + line * 19), text, _INK, font)
    return sheet


def _font_for(tiles: Sequence[Tile]) -> ImageFont.FreeTypeFont:
    """One for all captions: to look for a font among the machine's takes a program that runs for a moment."""
    letters = sorted({letter for tile in tiles for letter in tile.caption[:_MOST_LETTERS]})
    try:
        return find_font("".join(letters)).load(_LETTERS)
    except FontMissing:  # boxes instead of letters are better than no sheet
        return ImageFont.truetype(str(SHIPPED), _LETTERS)


def _lines(caption: str, width: int, font: ImageFont.FreeTypeFont) -> Iterator[str]:
    """The caption in at most two lines of `width` pixels, the last one cut."""
    left = " ".join(caption.split())
    for last in (False, True):
        if not left:
            return
        count = _fitting(left, width, font)
        if count < len(left) and not last and " " in left[:count]:
            count = left[:count].rindex(" ") + 1
        cut = last and count < len(left)
        yield left[: count - 1].rstrip() + "…" if cut else left[:count].rstrip()
        left = left[count:]


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont) -> int:
    """How many letters of the text fit, at least one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle]) <= width else (low, middle - 1)
    return low
