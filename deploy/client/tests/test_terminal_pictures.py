"""Codes that terminals draw pictures from: each read back as its terminal reads it."""

import base64
import io
import re

import pytest
from PIL import Image as Pillow

from imagegenx.cli import terminal_pictures

COLOURS = ((255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 255))


@pytest.fixture
def picture() -> Pillow.Image:
    """Four quarters of 10 x 7 pixels: no multiple of a sixel's six rows."""
    made = Pillow.new("RGB", (20, 14))
    for number, colour in enumerate(COLOURS):
        made.paste(colour, (10 * (number % 2), 7 * (number // 2), 10 * (number % 2) + 10, 7 * (number // 2) + 7))
    return made


def decoded_sixel(text: str) -> dict[tuple[int, int], tuple[int, ...]]:
    """The pixels that a sixel terminal draws."""
    body = re.fullmatch(r'\x1bPq"1;1;\d+;\d+(.*)\x1b\\', text)
    assert body
    palette: dict[int, tuple[int, ...]] = {}
    pixels: dict[tuple[int, int], tuple[int, ...]] = {}
    x = y = colour = 0
    for token in re.findall(r"#\d+;2;\d+;\d+;\d+|#\d+|!\d+.|[?-~]|\$|-", body[1]):
        if token.startswith("#") and ";" in token:
            number, _, *parts = map(int, token[1:].split(";"))
            palette[number] = tuple(round(part * 255 / 100) for part in parts)
        elif token.startswith("#"):
            colour = int(token[1:])
        elif token in "$-":
            x, y = 0, y + 6 * (token == "-")
        else:
            count, bits = (int(token[1:-1]), ord(token[-1]) - 63) if token[0] == "!" else (1, ord(token) - 63)
            for column in range(x, x + count):
                pixels.update({(column, y + bit): palette[colour] for bit in range(6) if bits >> bit & 1})
            x += count
    return pixels


def test_sixel(picture: Pillow.Image) -> None:
    expected = {(x, y): picture.getpixel((x, y)) for x in range(20) for y in range(14)}
    assert decoded_sixel(terminal_pictures.sixel(picture)) == expected


def test_kitty_takes_pieces() -> None:
    written = io.BytesIO()
    Pillow.effect_noise((100, 100), 90).save(written, "PNG")
    codes = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", terminal_pictures.kitty(written.getvalue()))
    assert [control for control, _ in codes] == ["a=T,f=100,m=1", *["m=1"] * (len(codes) - 2), "m=0"]
    assert max(len(piece) for _, piece in codes) <= 4096
    assert base64.b64decode("".join(piece for _, piece in codes)) == written.getvalue()


def test_half_blocks_are_two_rows_a_line(picture: Pillow.Image) -> None:
    lines = terminal_pictures.half_blocks(picture).split("\n")
    assert len(lines) == 7
    first = re.findall(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m▀", lines[0])
    assert [tuple(map(int, one)) for one in first] == [COLOURS[0] * 2] * 10 + [COLOURS[1] * 2] * 10


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "xterm-256color"}, "blocks"),
        ({"TERM": "xterm-256color", "IMAGEGENX_PICTURES": "none"}, None),
        ({"TERM": "dumb", "IMAGEGENX_PICTURES": "sixel"}, "sixel"),
    ],
)
def test_the_terminal_decides(variables: dict[str, str], expected: object, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KITTY_WINDOW_ID", "TERM", "TERM_PROGRAM", "COLORTERM", "IMAGEGENX_PICTURES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert terminal_pictures.terminal_protocol(forced=True) == expected
