"""One reader for every picture that a client sends: what comes out is 8-bit sRGB, upright, the first frame."""

import base64
import contextlib
import io
import re
import struct
import time
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes

import numpy as np
import pytest
from PIL import Image

from postprocessing.client_pictures import ClientPicture, PictureFault, decoded_text, read_picture
from postprocessing.tests.profiles import grey_profile, rgb_profile

GREEN = (40, 170, 60)


def written(picture: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **how)
    return file.getvalue()


def read(data: bytes) -> ClientPicture:
    return read_picture(data, max_pixels=40_000_000)


def first_pixel(picture: Image.Image, kind: str = "PNG", **how: Any) -> Any:
    return read(written(picture, kind, **how)).picture.getpixel((0, 0))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand: what Pillow can't write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    middle = b"".join(chunk(name, data) for name, data in more)
    return b"\x89PNG\r\n\x1a\n" + head + middle + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# ---- bits and modes


def test_sixteen_bits_of_grey_are_scaled() -> None:
    levels = np.array([[0, 13107, 39321, 65535]], np.uint16)
    read_out = read(written(Image.fromarray(levels))).picture
    assert [read_out.getpixel((x, 0)) for x in range(4)] == [(level,) * 3 for level in (0, 51, 153, 255)]


def test_sixteen_bits_of_colour_and_of_grey_with_alpha_are_scaled() -> None:
    assert read(png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 13107, 39321, 65535))).picture.getpixel((0, 0)) == (
        51, 153, 255,
    )  # fmt: skip
    assert read(png(1, 1, 16, 4, b"\0" + struct.pack(">2H", 13107, 39321))).picture.getpixel((0, 0)) == (
        51, 51, 51, 153,
    )  # fmt: skip
    assert read(png(1, 1, 16, 6, b"\0" + struct.pack(">4H", 13107, 39321, 65535, 39321))).picture.getpixel((0, 0)) == (
        51, 153, 255, 153,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "kind", "expected"),
    [
        ("1", "PNG", (0, 0, 0)),
        ("L", "PNG", (119, 119, 119)),
        ("LA", "PNG", (119, 119, 119, 255)),
        ("RGB", "PNG", GREEN),
        ("RGBA", "PNG", (*GREEN, 255)),
        ("CMYK", "JPEG", GREEN),
        ("L", "JPEG", (119, 119, 119)),
    ],
)
def test_every_mode_becomes_rgb_or_rgba(mode: str, kind: str, expected: tuple[int, ...]) -> None:
    picture = Image.new("RGB", (16, 16), GREEN).convert(mode)
    assert first_pixel(picture, kind) == pytest.approx(expected, abs=2)


def test_a_palette_keeps_its_colours_and_its_transparency() -> None:
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([255, 0, 0, *GREEN])
    assert first_pixel(picture) == GREEN
    assert first_pixel(picture, transparency=1) == (*GREEN, 0)
    assert first_pixel(picture, transparency=bytes([255, 128])) == (*GREEN, 128)


@pytest.mark.parametrize(
    ("picture", "clear"),
    [
        (Image.new("L", (4, 4), 7), 7),
        (Image.new("RGB", (4, 4), GREEN), GREEN),
        (Image.new("1", (4, 4), 1), 1),
        (Image.fromarray(np.full((4, 4), 13107, np.uint16)), 13107),
    ],
    ids=["grey", "colour", "bit", "16 bits"],
)
def test_one_level_may_stand_for_transparent(picture: Image.Image, clear: Any) -> None:
    assert first_pixel(picture, transparency=clear)[3] == 0


# ---- colour profiles


@pytest.mark.parametrize(("kind", "how"), [("PNG", {}), ("JPEG", {"quality": 100}), ("WEBP", {"lossless": True})])
def test_adobe_rgb_becomes_srgb(kind: str, how: dict[str, Any]) -> None:
    picture = Image.new("RGB", (16, 16), (101, 168, 71))
    assert first_pixel(picture, kind, icc_profile=rgb_profile(), **how) == pytest.approx(GREEN, abs=4)


def test_alpha_and_palettes_have_profiles_too() -> None:
    picture = Image.new("RGBA", (4, 4), (101, 168, 71, 9))
    assert first_pixel(picture, icc_profile=rgb_profile()) == pytest.approx((*GREEN, 9), abs=4)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([101, 168, 71])
    assert first_pixel(palette, icc_profile=rgb_profile()) == pytest.approx(GREEN, abs=4)


def test_linear_grey_becomes_srgb() -> None:
    expected = (168, 168, 168)  # 100/255 of the light
    assert first_pixel(Image.new("L", (4, 4), 100), icc_profile=grey_profile(1.0)) == pytest.approx(expected, abs=2)
    sixteen = Image.fromarray(np.full((4, 4), 25700, np.uint16))
    assert first_pixel(sixteen, icc_profile=grey_profile(1.0)) == pytest.approx(expected, abs=2)


@pytest.mark.parametrize("profile", [b"junk" * 50, rgb_profile()[:200], grey_profile(1.0)], ids=["junk", "cut", "grey"])
def test_a_profile_that_is_none_for_this_picture_is_ignored(profile: bytes) -> None:
    assert first_pixel(Image.new("RGB", (4, 4), GREEN), icc_profile=profile) == GREEN


# ---- orientation and frames


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_turns_the_picture(orientation: int, kind: str) -> None:
    upright = Image.new("L", (32, 16))
    upright.paste(255, (0, 0, 16, 8))
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # what a camera held like that stores
    stored = upright if back is None else upright.transpose(Image.Transpose(back))
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = read(written(stored.convert("RGB"), kind, exif=exif, quality=100)).picture
    corners = [np.asarray(seen)[at[1], at[0], 0] for at in ((4, 4), (28, 4), (4, 12), (28, 12))]
    assert (seen.size, [round(level / 255) for level in corners]) == ((32, 16), [1, 0, 0, 0])


@pytest.mark.parametrize("exif", [b"Exif\0\0" + b"\xff" * 30, b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"x"])
def test_a_broken_exif_note_says_nothing_about_the_pixels(exif: bytes) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        assert read(written(Image.new("RGB", (16, 16), "white"), kind, exif=exif)).picture.size == (16, 16)


def test_a_phones_jpeg_with_a_second_picture_is_its_first_one() -> None:
    data = written(
        Image.new("RGB", (64, 64), "white"), "MPO", save_all=True, append_images=[Image.new("RGB", (16, 16))]
    )
    found = read(data)
    assert (found.picture.size, found.picture.getpixel((5, 5)), found.animated) == ((64, 64), (255, 255, 255), False)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("white", "black")]
    found = read(written(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert (found.picture.convert("RGB").getpixel((5, 5)), found.animated) == ((255, 255, 255), True)


# ---- what is refused


def header_only(side: int) -> bytes:
    return png(side, side, 8, 6, b"")


def jpeg_of_scans(count: int) -> bytes:
    data = written(Image.effect_noise((64, 64), 90), "JPEG", progressive=True)
    start = data.index(b"\xff\xda")
    return data[:start] + data[start:-2] * count + b"\xff\xd9"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (header_only(20_000), "too_many_pixels"),
        (header_only(14_000), "too_many_pixels"),
        (header_only(6_400), "too_many_pixels"),
        (b"", "not_a_picture"),
        (b"GIF89a" + b"\0" * 50, "not_a_picture"),
        (written(Image.new("RGB", (64, 64)))[:60], "not_a_picture"),
        (written(Image.effect_noise((64, 64), 90), "JPEG")[:-900], "not_a_picture"),
        (written(Image.effect_noise((64, 64), 90), "WEBP")[:-900], "not_a_picture"),
        (jpeg_of_scans(200), "not_a_picture"),
    ],
)
def test_what_is_no_usable_picture_has_its_reason(data: bytes, code: str) -> None:
    with pytest.raises(PictureFault) as refused:
        read(data)
    assert refused.value.code == code


def test_any_damage_is_the_senders_fault() -> None:
    """Every byte of small files changed, one at a time: a picture, or a reason."""
    picture = Image.effect_noise((16, 16), 90)
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("PNG", "JPEG", "WEBP"):
        how: dict[str, Any] = {"exif": exif, "icc_profile": grey_profile(2.0)} if kind != "WEBP" else {"exif": exif}
        good = written(picture, kind, **how)
        for place in range(0, min(len(good), 800), 2):
            for value in (0xFF, good[place] ^ 0x01):
                broken = good[:place] + bytes([value]) + good[place + 1 :]
                with contextlib.suppress(PictureFault):
                    read_picture(broken, max_pixels=100_000)


# ---- pictures as text

DATA = written(Image.new("RGB", (8, 8), GREEN))
ENCODED = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "text",
    [
        ENCODED,
        ENCODED.rstrip("="),
        "\r\n".join(ENCODED[at : at + 76] for at in range(0, len(ENCODED), 76)),
        f"data:image/png;base64,{ENCODED}",
        f"DATA:IMAGE/PNG;BASE64,{ENCODED}",
        f"data:image/png;charset=utf-8;base64,{ENCODED}",
        f"data:image/png;name=a.png;base64,{ENCODED}",
        f"data:image/png;name=%22a%2Cb.png%22;base64,{ENCODED}",
        f"data:;base64,{ENCODED}",
        f"data:;charset=utf-8;base64,{ENCODED}",
        f"data:application/octet-stream;base64,{ENCODED}",
        f"data:image/svg+xml;base64,{ENCODED}",
        f"data:image/png;base64,{quote(ENCODED, safe='')}",
        f"data:image/png;base64,{ENCODED[:40]}\n{ENCODED[40:]}\n",
        f"data:image/png;base64, {ENCODED}",
        f" data:image/png;base64,{ENCODED}",
        f"data:image/png,{quote_from_bytes(DATA)}",
        f"data:,{quote_from_bytes(DATA)}",
    ],
)
def test_every_form_of_a_picture_in_a_text_is_read(text: str) -> None:
    assert decoded_text(text) == DATA


@pytest.mark.parametrize(
    "text", ["data:image/png;base64", "data:image/png;base64,!!!!", "not base64", "A", "é", "データ"]
)
def test_another_text_is_no_picture(text: str) -> None:
    with pytest.raises(ValueError):
        decoded_text(text)


# ---- files of too many pieces


def _pieces(name: bytes, data: bytes, count: int) -> bytes:
    return png(64, 64, 8, 2, b"\0" * (64 * 193), *[(name, data)] * count)


def _segments(piece: bytes, size: int = 2 << 20) -> bytes:
    plain = written(Image.new("RGB", (64, 64), GREEN), "JPEG")
    return plain[:2] + piece * (size // len(piece)) + plain[2:]


INTRICATE = {
    "texts": _pieces(b"tEXt", b"a\0b", 1000),
    "unknown chunks": _pieces(b"aaAa", b"", 1000),
    "empty data": _pieces(b"IDAT", b"", 21_000),
    "packed profiles": _pieces(b"iCCP", b"x\0\0" + zlib.compress(bytes(1_000_000)), 2),
    "packed texts": _pieces(b"zTXt", b"x\0\0" + zlib.compress(b"A" * 1_000_000), 10),
    "empty segments": _segments(b"\xff\xe1\0\2"),
    "comments": _segments(b"\xff\xfe\0\3x"),
    "tables": _segments(b"\xff\xdb\0\x43\0" + bytes(range(1, 65))),
    "filling": _segments(b"\xff"),
    "stuffing": _segments(b"\xff\0"),
    "junk": _segments(b"\xff\xe1\0\2" + bytes(2000)),
}


@pytest.mark.parametrize("name", INTRICATE)
def test_a_file_of_too_many_pieces_is_refused_before_it_is_read(name: str) -> None:
    """Pillow reads them one by one in Python: 20 MiB of them took half a minute, and nobody else was served."""
    began = time.process_time()
    with pytest.raises(PictureFault) as refused:
        read(INTRICATE[name])
    assert (refused.value.code, time.process_time() - began < 0.5) == ("not_a_picture", True)


def test_large_profiles_and_notes_are_no_such_pieces() -> None:
    notes: dict[str, Any] = {"icc_profile": bytes(15 << 20), "xmp": bytes(60_000), "comment": b"x" * 60_000}
    assert read(written(Image.new("RGB", (64, 64), GREEN), "JPEG", **notes)).picture.size == (64, 64)
    assert read(_pieces(b"tEXt", b"a\0b", 200)).picture.size == (64, 64)


def test_percent_encoding_is_undone_at_once() -> None:
    """20 MiB written so took 12 s."""
    data, began = bytes(range(256)) * 20_000, time.process_time()
    assert decoded_text("data:," + "".join(f"%{byte:02x}" for byte in data)) == data
    assert time.process_time() - began < 4
    assert decoded_text("data:,a%3Db=c%0d%0A \t%20") == b"a=b=c\r\n \t "


def test_pictures_of_strangers_are_opened_in_one_place() -> None:
    """These open what this product made; `opened` bounds the pieces of everything else."""
    root = Path(__file__).resolve().parents[2]
    ours = {
        "generation/compat/openai/streaming.py", "generation/tasks/sorting/sheet.py", "postprocessing/decoding.py",
        "postprocessing/thumbnails.py", "workers/stages/preview.py",
    }  # fmt: skip
    rooms = ("generation", "postprocessing", "storage", "workers")
    product = (path for room in rooms for path in (root / room).rglob("*.py"))
    found = {
        str(path.relative_to(root))
        for path in product
        if "tests" not in path.parts and re.search(r"\b(Image|Pillow)\.open\(", path.read_text())
    }
    assert found == ours | {"postprocessing/client_pictures.py"}
