"""Pictures that are sent with a request."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from imagegenx.errors import ImageGenXError
from imagegenx.parameters import Picture

_ADDRESSES = ("http://", "https://", "data:")
_TYPES = ((b"\x89PNG", "png", "image/png"), (b"\xff\xd8", "jpg", "image/jpeg"), (b"RIFF", "webp", "image/webp"))


@dataclass(frozen=True)
class FilePart:
    """A file of a multipart request."""

    name: str
    content: bytes
    content_type: str


def picture_part(picture: Picture) -> str | FilePart:
    """The address as it is; a path, bytes or an open file as a part with its bytes, so that it can be sent again."""
    if isinstance(picture, str) and picture.startswith(_ADDRESSES):
        return picture
    if isinstance(picture, (str, os.PathLike)):
        try:
            content = Path(picture).read_bytes()
        except OSError as error:
            raise ImageGenXError(f"{picture} can't be read: {error.strerror}.") from error
    else:
        content = picture if isinstance(picture, bytes) else picture.read()
    for start, ending, content_type in _TYPES:
        if content.startswith(start):
            return FilePart(f"picture.{ending}", content, content_type)
    return FilePart("picture", content, "application/octet-stream")
