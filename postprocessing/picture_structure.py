"""What a client's picture file is made of, before Pillow opens it.

Pillow reads the pieces of a file one by one in Python: 20 MiB of empty ones keep the interpreter for half a minute, and
a packed one of a thousandth of its size is unpacked each time that it stands there. Here a file is walked as Pillow
would, up to bounds that no real one comes near.

    PNG     chunks: MOST_CHUNKS, of which MOST_OTHERS are no picture data and one is a colour profile
    JPEG    segments up to the first scan: MOST_SEGMENTS; MOST_JUNK bytes between them
    WebP    read by its own library, in C
"""

from typing import Final

PNG: Final = b"\x89PNG\r\n\x1a\n"
JPEG: Final = b"\xff\xd8\xff"
MOST_CHUNKS: Final = 20_000  # libpng writes 8 KiB in each: 160 MiB
MOST_OTHERS: Final = 300
MOST_SEGMENTS: Final = 1500  # a colour profile takes up to 255, a large XMP some hundred
MOST_JUNK: Final = 4096  # bytes: filling before a marker, what is no segment
_PICTURE: Final = (b"IDAT", b"fdAT", b"fcTL")
_ALONE: Final = (0x00, 0x01, *range(0xD0, 0xDA))  # markers without a length
_SCAN: Final = 0xDA


def is_too_intricate(data: bytes) -> bool:
    """Whether a file has more pieces than a picture needs."""
    if data.startswith(PNG):
        return _png(data)
    return data.startswith(JPEG) and _jpeg(data)


def _png(data: bytes) -> bool:
    place, chunks, others, profiles = len(PNG), 0, 0, 0
    while place + 12 <= len(data):
        kind = data[place + 4 : place + 8]
        chunks += 1
        others += kind not in _PICTURE
        profiles += kind == b"iCCP"
        if chunks > MOST_CHUNKS or others > MOST_OTHERS or profiles > 1:
            return True
        if kind == b"IEND":
            return False
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    return False


def _jpeg(data: bytes) -> bool:
    place, segments, junk = 2, 0, 0
    while segments <= MOST_SEGMENTS and junk <= MOST_JUNK:
        found = data.find(b"\xff", place)
        if found < 0 or found + 4 > len(data):
            return len(data) - place > MOST_JUNK
        junk += found - place
        marker = data[found + 1]
        if marker == _SCAN:
            return junk > MOST_JUNK
        place = found + 1
        if marker == 0xFF:
            junk += 1
            continue
        segments += 1
        place += 1
        if marker not in _ALONE:
            place += max(2, int.from_bytes(data[place : place + 2], "big"))
    return True
