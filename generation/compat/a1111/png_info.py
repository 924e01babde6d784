"""`png-info`: what a picture's file says of how it was made. Only the head is read; no pixel is decoded."""

import re
from typing import ClassVar, Final

from django.conf import settings
from rest_framework.response import Response

from generation.api.authentication import KeyRequest
from generation.compat.a1111 import form
from generation.compat.a1111.views import SdapiView, object_of
from imagegenx_site.errors import Fault, InvalidRequest
from postprocessing.client_pictures import decoded_text, opened

_EXIF: Final = 0x8769
_COMMENT: Final = 0x9286
_UTF16: Final = b"UNICODE\0"
# A name and its value, or what is passed over. Nothing gives back what it took, so that a line takes time linear to it.
_PAIR: Final = re.compile(
    r"""\s*+([\w ./-]++):\s*+("(?:\\.|[^"\\])*+"(?=,|$)|[^,]*+)(?:,|$)|\s*+[\w ./-]*+(?:.|$)""", re.DOTALL
)
_MOST_PAIRS: Final = 4000  # characters of the line of pairs
_MOST_TEXT: Final = 200_000  # characters of a text that is answered


class PngInfoView(SdapiView):
    """The parameters that are written in a picture."""

    scopes: ClassVar = {"POST": "read"}

    def post(self, request: KeyRequest) -> Response:
        """The text as it stands, its parts, and the file's other texts."""
        items = _texts(form.text(object_of(request), "image"))
        info = items.pop("parameters", "")
        return Response({"info": info, "items": {**items, "parameters": info}, "parameters": parsed(info)})


def parsed(info: str) -> dict[str, str]:
    """The parts of A1111's three-part text."""
    if not info:
        return {}
    lines = info.strip().split("\n")
    last = lines[-1]
    pairs = _PAIR.findall(last) if last.lstrip().startswith("Steps:") and len(last) <= _MOST_PAIRS else []
    prompt, _, negative = "\n".join(lines[:-1] if pairs else lines).partition("Negative prompt:")
    found = {name.strip(): value.strip().strip('"') for name, value in pairs if name}
    return {"Prompt": prompt.strip(), "Negative prompt": negative.strip(), **found}


def _texts(image: str) -> dict[str, str]:
    """The texts of the file. Raises InvalidRequest."""
    try:
        data = decoded_text(image) if image else b""
        if not data or len(data) > settings.MAX_INPUT_BYTES:
            raise ValueError("no picture, or too large a one")
        with opened(data) as picture:
            found = {
                str(name): str(value)[:_MOST_TEXT] for name, value in picture.info.items() if isinstance(value, str)
            }
            comment = picture.getexif().get_ifd(_EXIF).get(_COMMENT)
    except Exception as error:  # whatever a damaged file makes Pillow raise
        raise InvalidRequest([Fault("image", "not_a_picture", "Send a PNG, JPEG or WebP in base64.")]) from error
    if isinstance(comment, bytes) and comment.startswith(_UTF16) and "parameters" not in found:
        found["parameters"] = comment.removeprefix(_UTF16).decode("utf-16-be", "replace")[:_MOST_TEXT]
    return found
