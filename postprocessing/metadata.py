"""Generation parameters and source type in a file's metadata.

`full`: the parameters in AUTOMATIC1111's text form, which the usual viewers and upload sites read: in PNG the text
chunk "parameters", in other formats EXIF UserComment (UTF-16, big-endian); and IPTC's XMP property DigitalSourceType,
which marks the picture as made by a trained algorithm. `minimal`: only that property. `none`: nothing.

A JPEG has room for 64 KB of EXIF. Prompts of more than `JPEG_PROMPTS` bytes of UTF-16 are shortened in it.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from xml.sax.saxutils import quoteattr

_EXIF_IFD = 0x8769
_USER_COMMENT = 0x9286
_SOFTWARE = 0x0131
_ASCII, _LONG, _UNDEFINED = 2, 4, 7  # TIFF types
_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    ' xmp:CreatorTool="ImageGenX" Iptc4xmpExt:DigitalSourceType={source}/>'
    '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


JPEG_PROMPTS = 60_000  # bytes of UTF-16 for prompt and negative prompt together; the rest is for the other values
_CUT = "…"


@dataclass(frozen=True)
class Notes:
    """How one picture was generated. `width`, `height`: generated size in pixels; `extra`: further "Name: value" pairs.

    `edited`: made from a customer's picture (img2img, inpaint), which has another source type. `steps` 0: a picture
    that nothing is written of but its source type.
    """

    prompt: str
    negative_prompt: str = ""
    steps: int = 0
    sampler: str = ""
    cfg_scale: float = 0.0
    seed: int = 0
    width: int = 0
    height: int = 0
    model: str = ""
    edited: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)


def parameters_text(notes: Notes) -> str:
    """The three-part text of AUTOMATIC1111: prompt, "Negative prompt: …", and one line of "Name: value" pairs."""
    pairs = {
        "Steps": str(notes.steps),
        "Sampler": notes.sampler,
        "CFG scale": f"{notes.cfg_scale:g}",
        "Seed": str(notes.seed),
        "Size": f"{notes.width}x{notes.height}",
        "Model": notes.model,
        **notes.extra,
        "Version": "ImageGenX",
    }
    lines = [notes.prompt]
    if notes.negative_prompt:
        lines.append(f"Negative prompt: {notes.negative_prompt}")
    lines.append(", ".join(f"{name}: {_quoted(value)}" for name, value in pairs.items() if value))
    return "\n".join(lines)


def too_long_for_jpeg(prompt: str, negative_prompt: str) -> bool:
    """Whether a JPEG can hold these prompts only in part."""
    return _utf16(prompt) + _utf16(negative_prompt) > JPEG_PROMPTS


def for_jpeg(notes: Notes) -> Notes:
    """The notes with as much of the prompts as a JPEG can hold; the longer one is shortened first."""
    if not too_long_for_jpeg(notes.prompt, notes.negative_prompt):
        return notes
    lengths = _utf16(notes.prompt), _utf16(notes.negative_prompt)
    shares = [max(JPEG_PROMPTS // 2, JPEG_PROMPTS - other) for other in reversed(lengths)]
    prompt, negative = map(_shortened, (notes.prompt, notes.negative_prompt), shares)
    return replace(notes, prompt=prompt, negative_prompt=negative)


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-be", "replace"))


def _shortened(text: str, most: int) -> str:
    """The beginning of a text within `most` bytes of UTF-16, and a sign that there was more."""
    encoded = text.encode("utf-16-be", "replace")
    if len(encoded) <= most:
        return text
    return encoded[: most // 2 * 2 - _utf16(_CUT)].decode("utf-16-be", "ignore") + _CUT


def exif(notes: Notes) -> bytes:
    """An EXIF block with the parameters as UserComment and the program's name.

    Packed here because Pillow gives UserComment the type BYTE, and readers of the parameters accept UNDEFINED only
    (docs/decisions/0006).
    """
    software = b"ImageGenX\0"
    comment = b"UNICODE\0" + parameters_text(notes).encode("utf-16-be", "replace")
    first, second = 8, 8 + 2 + 2 * 12 + 4  # offsets of the two directories from the TIFF header
    software_at = second + 2 + 12 + 4
    comment_at = software_at + len(software)
    entries = struct.pack(">HHHLLHHLL", 2, _SOFTWARE, _ASCII, len(software), software_at, _EXIF_IFD, _LONG, 1, second)
    inner = struct.pack(">HHHLLL", 1, _USER_COMMENT, _UNDEFINED, len(comment), comment_at, 0)
    return b"Exif\0\0MM" + struct.pack(">HL", 42, first) + entries + bytes(4) + inner + software + comment


def xmp(edited: bool) -> bytes:
    """An XMP packet with the source type."""
    return _XMP.format(source=quoteattr(source_type(edited))).encode()


def source_type(edited: bool) -> str:
    """IPTC's digital source type."""
    return _SOURCE_TYPES + ("compositeWithTrainedAlgorithmicMedia" if edited else "trainedAlgorithmicMedia")


def _quoted(value: str) -> str:
    """As a JSON string where needed: A1111 reads other values up to the next comma."""
    if any(sign in value for sign in ',:\n"'):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    return value
