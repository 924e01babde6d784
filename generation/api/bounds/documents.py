"""Bounds of what a document may hold, so that to read and check it costs no more than a picture does.

A body may have MAX_BODY_BYTES because of the pictures in it, as base64. As small values the same bytes would be
millions of objects: seconds in which the interpreter serves nobody else, and gigabytes.
"""

from collections.abc import Mapping
from typing import Any, Final

from imagegenx_site.errors import Fault, InvalidRequest

MAX_SEPARATORS: Final = 500_000  # commas, colons and brackets, also those in texts; base64 has none
MAX_VALUES: Final = 5000
MAX_DEPTH: Final = 32
MAX_NAME: Final = 200  # characters of a field's name
MAX_TEXT: Final = 200_000  # characters of a text that is no picture
# Fields that may hold a picture in base64, of all doors
PICTURES: Final = frozenset({"image", "image[]", "mask", "control_image", "init_images"})


class TooMuch(InvalidRequest):
    """The document has more of something than it may; the message says of what."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__([Fault(field, "too_large", message)])


def check_text(text: bytes) -> None:
    """Before it is parsed. Raises TooMuch."""
    if len(text) > MAX_SEPARATORS and sum(map(text.count, (b",", b":", b"[", b"{"))) > MAX_SEPARATORS:
        raise TooMuch("The document has too many values.")


def check_value(value: Any) -> None:
    """Raises TooMuch."""
    left, waiting = MAX_VALUES, [("", value, 0)]
    while waiting:
        name, one, depth = waiting.pop()
        if isinstance(one, str):
            if len(one) > MAX_TEXT and name not in PICTURES:
                raise TooMuch(f"Longer than {MAX_TEXT} characters.", name)
            continue
        if not isinstance(one, Mapping | list):
            continue
        left -= len(one)
        if left < 0:
            raise TooMuch(f"The document has more than {MAX_VALUES} values.")
        if depth == MAX_DEPTH:
            raise TooMuch(f"The document is nested more than {MAX_DEPTH} deep.")
        if isinstance(one, list):
            waiting += [(name, inner, depth + 1) for inner in one]
            continue
        for field, inner in one.items():
            if len(field) > MAX_NAME:
                raise TooMuch(f"A field's name is longer than {MAX_NAME} characters.")
            waiting.append((field, inner, depth + 1))
