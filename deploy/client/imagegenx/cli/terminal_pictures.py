"""Pictures in the terminal: kitty's protocol, iTerm's, sixel, or half blocks of two colours a character.

IMAGEGENX_PICTURES=kitty|iterm|sixel|blocks|none decides; else what the terminal says of itself. All but iTerm's need
Pillow, which decodes the file (`pip install imagegenx[pictures]`); kitty's takes PNG files without it.
"""

from __future__ import annotations

import base64
import io
import os
import select
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Literal, cast

from imagegenx.cli.output import output

if TYPE_CHECKING:
    from PIL.Image import Image

Protocol = Literal["kitty", "iterm", "sixel", "blocks"]
_VARIABLE = "IMAGEGENX_PICTURES"
_SIDE = 512  # pixels that a picture takes at most
_COLUMNS = 64  # characters that half blocks take at most
_CHUNK = 4096  # of kitty's protocol
_ANSWER_S = 0.2


def terminal_protocol(forced: bool) -> Protocol | None:
    """How pictures are shown here; None: not at all. `forced`: somebody asked for it, also without a terminal."""
    chosen = os.environ.get(_VARIABLE, "")
    if chosen in ("kitty", "iterm", "sixel", "blocks"):
        return cast(Protocol, chosen)
    if chosen == "none" or not (forced or sys.stdout.isatty()):
        return None
    terminal, program = os.environ.get("TERM", ""), os.environ.get("TERM_PROGRAM", "")
    if os.environ.get("KITTY_WINDOW_ID") or "kitty" in terminal or program == "ghostty":
        return "kitty"
    if program in ("iTerm.app", "WezTerm"):
        return "iterm"
    if _knows_sixel():
        return "sixel"
    colours = os.environ.get("COLORTERM", "") in ("truecolor", "24bit") or "256" in terminal
    return "blocks" if colours or forced else None


def _knows_sixel() -> bool:
    """Ask for the terminal's attributes (DA1): 4 among them is sixel."""
    try:
        import termios
        import tty

        descriptor = sys.stdin.fileno()
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            return False
        before = termios.tcgetattr(descriptor)
    except (ImportError, OSError, ValueError):
        return False
    try:
        tty.setcbreak(descriptor)
        sys.stdout.write("\x1b[c")
        sys.stdout.flush()
        answer, end = b"", time.monotonic() + _ANSWER_S
        while not answer.endswith(b"c") and select.select([descriptor], [], [], max(0, end - time.monotonic()))[0]:
            answer += os.read(descriptor, 64)
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
    return b"4" in answer.strip(b"\x1b[?c").split(b";")


def show(path: Path, protocol: Protocol) -> None:
    """Write the picture to the terminal, if its file can be read here."""
    text = _text(path, protocol)
    if text is None:
        output.note("Pictures are shown where Pillow is installed: pip install 'imagegenx[pictures]'")
    else:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def _text(path: Path, protocol: Protocol) -> str | None:
    if protocol == "iterm":
        return iterm(path.read_bytes())
    if protocol == "kitty" and path.suffix == ".png":
        return kitty(path.read_bytes())
    picture = _decoded(path)
    if picture is None:
        return None
    return cast("Callable[[Image], str]", {"kitty": _kitty, "sixel": sixel, "blocks": half_blocks}[protocol])(picture)


def _decoded(path: Path) -> Image | None:
    try:
        from PIL import Image as Pillow

        with Pillow.open(path) as opened:
            return opened.convert("RGB")
    except (ImportError, OSError):
        return None


def iterm(data: bytes) -> str:
    """iTerm2's inline picture."""
    size = f"size={len(data)};inline=1;width={_SIDE}px;preserveAspectRatio=1"
    return f"\x1b]1337;File={size}:{base64.b64encode(data).decode()}\a"


def _kitty(picture: Image) -> str:
    small, png = _fitted(picture), io.BytesIO()
    small.save(png, "PNG")
    return kitty(png.getvalue())


def kitty(png: bytes) -> str:
    """Kitty's graphics protocol, in pieces of at most 4096 characters."""
    text = base64.b64encode(png).decode()
    pieces = [text[at : at + _CHUNK] for at in range(0, len(text), _CHUNK)]
    codes = []
    for number, piece in enumerate(pieces):
        first = "a=T,f=100," if number == 0 else ""
        codes.append(f"\x1b_G{first}m={int(number < len(pieces) - 1)};{piece}\x1b\\")
    return "".join(codes)


def sixel(picture: Image) -> str:
    """DEC's sixel graphics with 256 colours: bands of six rows, each colour a line of its own."""
    small = _fitted(picture).quantize(256)
    width, height = small.size
    palette, pixels = small.getpalette() or [], small.tobytes()
    parts = ["\x1bPq", f'"1;1;{width};{height}']
    for colour in sorted(set(pixels)):
        red, green, blue = (round(part * 100 / 255) for part in palette[3 * colour : 3 * colour + 3])
        parts.append(f"#{colour};2;{red};{green};{blue}")
    for top in range(0, height, 6):
        rows = [pixels[row * width : (row + 1) * width] for row in range(top, min(top + 6, height))]
        lines = []
        for colour in sorted(set(b"".join(rows))):
            bits = [sum((row[x] == colour) << bit for bit, row in enumerate(rows)) for x in range(width)]
            lines.append(f"#{colour}{_run_lengths(bits)}")
        parts.append("$".join(lines) + "-")
    return "".join(parts) + "\x1b\\"


def _run_lengths(bits: list[int]) -> str:
    parts, at = [], 0
    while at < len(bits):
        end = at
        while end < len(bits) and bits[end] == bits[at]:
            end += 1
        sign = chr(63 + bits[at])
        parts.append(f"!{end - at}{sign}" if end - at > 3 else sign * (end - at))
        at = end
    return "".join(parts)


def half_blocks(picture: Image) -> str:
    """Two rows of pixels in a line of characters: the upper half block's colour, and the ground's."""
    width = min(_COLUMNS, shutil.get_terminal_size().columns, picture.width)
    height = max(2, round(picture.height * width / picture.width) // 2 * 2)
    data = picture.resize((width, height)).tobytes()
    pixels = [data[at : at + 3] for at in range(0, len(data), 3)]
    lines = []
    for top in range(0, height, 2):
        pairs = zip(pixels[top * width : (top + 1) * width], pixels[(top + 1) * width : (top + 2) * width])
        lines.append(
            "".join(f"\x1b[38;2;{a[0]};{a[1]};{a[2]};48;2;{b[0]};{b[1]};{b[2]}m▀" for a, b in pairs) + "\x1b[0m"
        )
    return "\n".join(lines)


def _fitted(picture: Image) -> Image:
    small = picture.copy()
    small.thumbnail((_SIDE, _SIDE))
    return small
