"""Colour profiles for tests: none is installed with the product but the one it writes."""

import struct

ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))  # red, green, blue
_WHITE = (0.9642, 1.0, 0.8249)
_GAMMA = 563 / 256  # of Adobe RGB (1998)


def _fixed(number: float) -> bytes:
    return struct.pack(">i", round(number * 65536))


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A version 2 display profile."""
    offset, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", offset + len(data), len(content))
        data += content + b"\0" * (-len(content) % 4)
    body = struct.pack(">I", len(tags)) + table + data
    head = struct.pack(">I4s4s4s4s4s", 128 + len(body), b"\0\0\0\0", b"\x02\x10\0\0", b"mntr", space, b"XYZ ")
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + b"\0" * 28 + b"".join(map(_fixed, _WHITE))
    return head.ljust(128, b"\0") + body


def rgb_profile(primaries: tuple[tuple[float, float, float], ...] = ADOBE_RGB, gamma: float = _GAMMA) -> bytes:
    """A matrix profile, by default with Adobe RGB's numbers."""
    columns = {name: _xyz(one) for name, one in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
    curves = {name: _curve(gamma) for name in (b"rTRC", b"gTRC", b"bTRC")}
    return _profile(b"RGB ", {b"wtpt": _xyz(_WHITE), **columns, **curves})


def grey_profile(gamma: float) -> bytes:
    """Grey of one gamma."""
    return _profile(b"GRAY", {b"wtpt": _xyz(_WHITE), b"kTRC": _curve(gamma)})
