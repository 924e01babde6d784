"""Finds a font with every character of a text: the shipped one first, so that pictures look the same on every machine,
then those of fontconfig.

Fontconfig is queried with its programs fc-list and fc-match; without them only the shipped font (Chinese and Latin) is
known.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

from postprocessing.errors import FontMissing

SHIPPED = Path(__file__).parent / "WenQuanYiMicroHei-GB2312.ttf"
SHIPPED_FAMILY = "WenQuanYi Micro Hei"
_NOT_A_CHARACTER = "\U0010ffff"  # every font draws its "missing" box for it
_TIMEOUT = 10  # s


@dataclass(frozen=True)
class FontFile:
    """A font face: a file, and the face's index in a collection."""

    path: str
    index: int = 0

    def load(self, size: float) -> ImageFont.FreeTypeFont:
        return ImageFont.truetype(self.path, size, self.index)


@lru_cache(maxsize=256)
def find_font(text: str, family: str = "") -> FontFile:
    """A font with all characters of `text`: of the named family where that is installed, else the shipped one, or
    another one that has them. Raises FontMissing.
    """
    font = _system_font(family) if family else None
    if font is None:
        shipped = FontFile(str(SHIPPED))
        return shipped if not missing_characters(text, shipped) else _any_system_font(text)
    missing = missing_characters(text, font)
    if missing:
        raise FontMissing(f"The font {family!r} lacks {_shown(missing)}; leave `font` out or name one that has them.")
    return font


def missing_characters(text: str, font: FontFile) -> list[str]:
    """Characters of `text` that the face draws as its "missing" box."""
    face = ImageFont.truetype(font.path, 24, font.index, layout_engine=ImageFont.Layout.BASIC)
    box = bytes(face.getmask(_NOT_A_CHARACTER))
    return [sign for sign in dict.fromkeys(text) if not sign.isspace() and bytes(face.getmask(sign)) == box]


def is_installed(family: str) -> bool:
    """Whether this machine has the family."""
    return _system_font(family) is not None


@lru_cache(maxsize=256)
def _system_font(family: str) -> FontFile | None:
    if family.casefold() == SHIPPED_FAMILY.casefold():
        return FontFile(str(SHIPPED))
    # These characters are special in a fontconfig pattern.
    pattern = re.sub(r"([\\:,=-])", r"\\\1", family)
    found = _lines("fc-match", "--format", "%{file}\t%{index}\t%{family}\n", pattern)
    for path, index, families in found:
        if family.casefold() in (name.casefold() for name in families.split(",")):
            return FontFile(path, int(index) & 0xFFFF)
    return None


def _any_system_font(text: str) -> FontFile:
    needed = " ".join(sorted({f"{ord(sign):x}" for sign in text if not sign.isspace()}))
    rows = _lines(
        "fc-list",
        f":charset={needed}:scalable=true",
        "file",
        "index",
        "style",
        "--format",
        "%{file}\t%{index}\t%{style}\n",
    )
    regular = sorted(rows, key=lambda row: ("Regular" not in row[2] and "Book" not in row[2], row[0], row[1]))
    for path, index, _ in regular:
        font = FontFile(path, int(index) & 0xFFFF)
        if not missing_characters(text, font):
            return font
    missing = missing_characters(text, FontFile(str(SHIPPED)))
    raise FontMissing(
        f"No font here has {_shown(missing)}; install one (for example Debian's fonts-noto-core and fonts-noto-cjk)."
    )


def _lines(program: str, *arguments: str) -> list[list[str]]:
    """The tab-separated output of a fontconfig program; empty where fontconfig is not installed."""
    if shutil.which(program) is None:
        return []
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    return [line.split("\t") for line in done.stdout.splitlines() if line.count("\t") == 2]


def _shown(signs: list[str]) -> str:
    return ", ".join(f"{sign} (U+{ord(sign):04X})" for sign in signs[:5]) + (" and others" if len(signs) > 5 else "")
