"""Bounds of what a document may hold, so that to read and check it costs no more than a picture does.

A body may have MAX_BODY_BYTES because of the pictures in it, as base64. As small values the same bytes would be
millions of objects: seconds in which the interpreter serves nobody else, and gigabytes.

What JSON can say and nothing behind the doors can keep is refused here, too: numbers that are not finite, lone
surrogates in values and in names.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from generation.api.requests import spellings
from imagegenx_site.errors import Fault, InvalidRequest

MAX_SEPARATORS: Final = 500_000  # commas, colons and brackets, also those in texts; base64 has none
MAX_VALUES: Final = 5000
MAX_DEPTH: Final = 32
MAX_NAME: Final = 200  # characters of a field's name
MAX_TEXT: Final = 200_000  # characters of a text that is no picture
# Fields that may hold a picture in base64, of all doors
PICTURES: Final = (
    frozenset({"data", "image[]", "init_images", "images", "input_image", "source_image", "source_mask"})
    | spellings.PICTURES
)
_MOST_FAULTS: Final = 20
_PIECE: Final = 64 << 10  # bytes of a text that are looked at in one go
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class TooMuch(InvalidRequest):
    """The document has more of something than it may; the message says of what."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__([Fault(field, "too_large", message)])


def parse(text: bytes, path: str = "") -> Any:
    """The value of a JSON text. Raises ValueError when it is none, InvalidRequest naming what no request may have."""
    check_text(text)
    try:
        value = json.loads(text.decode("utf-8-sig"), parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("It is nested too deeply.") from error
    check_value(value)
    faults: list[Fault] = []
    _note_unusable(value, path, faults)
    if faults:
        raise InvalidRequest(faults)
    return value


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON.")


def _note_unusable(value: Any, path: str, faults: list[Fault]) -> None:
    """What is wrong with a value whatever its fields mean. Recursion and paths are bounded by `check_value`."""
    if len(faults) >= _MOST_FAULTS:
        return
    if isinstance(value, str) and not value.isascii() and _SURROGATE.search(value):
        faults.append(Fault(path, "malformed", "A text must not contain lone surrogates."))
    elif isinstance(value, float) and not math.isfinite(value):
        faults.append(Fault(path, "out_of_range", "The number is too large."))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            _note_unusable(one, f"{path}[{number}]", faults)
    elif isinstance(value, dict):
        for name, one in value.items():
            shown = name.encode("utf-8", "backslashreplace").decode()
            here = f"{path}.{shown}" if path else shown
            if shown != name:
                faults.append(Fault(here, "malformed", "A name must not contain lone surrogates."))
            _note_unusable(one, here, faults)


def check_text(text: bytes) -> None:
    """Before it is parsed. Raises TooMuch.

    Piece by piece: the rest of a text that has too many is not looked at, and other threads get their turn between the
    pieces (one count over all of a large body keeps the interpreter for 30 ms).
    """
    separators = 0
    for start in range(0, len(text) if len(text) > MAX_SEPARATORS else 0, _PIECE):
        separators += sum(text.count(one, start, start + _PIECE) for one in (b",", b":", b"[", b"{"))
        if separators > MAX_SEPARATORS:
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
