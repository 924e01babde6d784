"""What is done to a picture, in the order it is done: the `postprocess` block of a request as frozen values.

docs/postprocessing.md has the JSON form. Recipes are compared by value: pictures with equal recipes are processed as
one batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Self

from postprocessing.fields import Fault, Fields, pair_or_fault
from postprocessing.watermark_form import Mark, read_marks

Curve = tuple[tuple[float, float], ...]
FORMATS = ("webp", "avif", "png", "jpeg")
DEFAULT_QUALITY = {"webp": 85, "avif": 65, "png": 100, "jpeg": 90}
IDENTITY: Curve = ((0.0, 0.0), (1.0, 1.0))


class RecipeError(ValueError):
    """The block is wrong; `faults` says everything that is."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(f"{fault.field}: {fault.message}" for fault in faults))
        self.faults = faults


@dataclass(frozen=True)
class Basic:
    """`brightness` is added (1 = full white), `contrast` a factor around mid-grey, `denoise` from 0 (off) to 1."""

    brightness: float = 0.0
    contrast: float = 1.0
    white_balance: str = "none"
    denoise: float = 0.0


@dataclass(frozen=True)
class Upscale:
    scale: int
    late: bool


@dataclass(frozen=True)
class Tone:
    """`curve` maps input to output, both 0 to 1; `saturation` is a factor; `sharpen` is the unsharp mask's strength."""

    curve: Curve = IDENTITY
    saturation: float = 1.0
    sharpen: float = 0.0


@dataclass(frozen=True)
class Output:
    """The file. `auto`: the smallest that looks as good as a JPEG 90, instead of `quality`. `metadata`: full, minimal
    or none; `icc`: write the sRGB profile; `provenance`: a signed manifest.
    """

    format: str = "webp"
    quality: int = DEFAULT_QUALITY["webp"]
    lossless: bool = False
    auto: bool = False
    metadata: str = "full"
    icc: bool = True
    provenance: bool = False


@dataclass(frozen=True)
class Recipe:
    basic: Basic = Basic()
    upscale: Upscale | None = None
    tone: Tone = Tone()
    white_background: bool = False
    watermarks: tuple[Mark, ...] = ()
    output: Output = Output()

    @classmethod
    def from_json(cls, block: Any, style_tone: Mapping[str, Any] | None = None, path: str = "postprocess") -> Self:
        """The recipe of a request's block; what the block leaves out comes from the style. Raises RecipeError with
        all faults.
        """
        faults: list[Fault] = []
        style = _read_style(style_tone, faults)
        fields = Fields(block, path, faults)
        recipe = cls(
            basic=Basic(
                brightness=fields.number("brightness", -1.0, 1.0, 0.0),
                contrast=fields.number("contrast", 0.5, 2.0, 1.0),
                white_balance=fields.choice("white_balance", ("none", "auto"), "none"),
                denoise=fields.number("denoise", 0.0, 1.0, 0.0),
            ),
            upscale=fields.other("upscale", _read_upscale, None),
            tone=_read_tone(fields, style.tone),
            white_background=fields.boolean("white_background", style.white_background),
            watermarks=fields.other("watermark", read_marks, ()),
            output=_read_output(fields),
        )
        fields.finish()
        if faults:
            raise RecipeError(faults)
        return recipe

    @property
    def late(self) -> bool:
        """True when a first version is delivered before the whole recipe is done."""
        return self.upscale is not None and self.upscale.late

    def marked(self, mark: Mapping[str, Any]) -> Self:
        """The recipe with a further watermark, drawn last; an empty one changes nothing. Raises RecipeError."""
        if not mark:
            return self
        faults: list[Fault] = []
        further = read_marks(mark, "watermark", faults)
        if faults:
            raise RecipeError(faults)
        return replace(self, watermarks=self.watermarks + further)

    def first_version(self) -> Self:
        """The recipe without its late steps."""
        return replace(self, upscale=None) if self.late else self


@dataclass(frozen=True)
class _Style:
    tone: Tone
    white_background: bool


def _read_style(style_tone: Mapping[str, Any] | None, faults: list[Fault]) -> _Style:
    fields = Fields(style_tone, "style.tone", faults)
    style = _Style(
        tone=Tone(
            curve=fields.other("curve", _read_curve, IDENTITY),
            saturation=fields.number("saturation", 0.5, 2.0, 1.0),
            sharpen=fields.number("sharpen", 0.0, 2.0, 0.0),
        ),
        white_background=fields.boolean("white_background", False),
    )
    fields.finish()
    return style


def _read_upscale(value: Any, path: str, faults: list[Fault]) -> Upscale | None:
    fields = Fields(value, path, faults)
    if not isinstance(value, Mapping):
        return None
    scale = fields.choice("scale", (2, 4), 2, required=True)
    upscale = Upscale(scale, fields.boolean("late", scale == 4))
    fields.finish()
    return upscale


def _read_tone(fields: Fields, style: Tone) -> Tone:
    def read(value: Any, path: str, faults: list[Fault]) -> Curve:
        if isinstance(value, str):
            if value not in ("style", "none"):
                faults.append(Fault(path, "not_allowed", f"It is {value!r}; it may be style, none or a list of pairs."))
            return style.curve if value == "style" else IDENTITY
        return _read_curve(value, path, faults)

    return Tone(
        curve=fields.other("tone", read, style.curve),
        saturation=fields.number("saturation", 0.5, 2.0, style.saturation),
        sharpen=fields.number("sharpen", 0.0, 2.0, style.sharpen),
    )


def _read_curve(value: Any, path: str, faults: list[Fault]) -> Curve:
    """2 to 16 pairs within 0 and 1, rising from 0 to 1."""
    if not isinstance(value, list):
        faults.append(Fault(path, "wrong_type", "Give a list of pairs [in, out]."))
        return IDENTITY
    if not 2 <= len(value) <= 16:
        faults.append(Fault(path, "out_of_range", f"It has {len(value)} pairs; it may have 2 to 16."))
        return IDENTITY
    before = len(faults)
    pairs = [pair_or_fault(pair, f"{path}[{index}]", 1.0, faults) for index, pair in enumerate(value)]
    if len(faults) > before:
        return IDENTITY
    inputs = [pair[0] for pair in pairs]
    if inputs[0] != 0 or inputs[-1] != 1 or any(b <= a for a, b in pairwise(inputs)):
        faults.append(Fault(path, "invalid", "The first numbers of the pairs must rise from 0 to 1."))
        return IDENTITY
    return tuple(pairs)


def _read_output(fields: Fields) -> Output:
    form = fields.choice("format", FORMATS, "webp")
    auto = fields.is_word("quality", "auto")
    output = Output(
        format=form,
        quality=DEFAULT_QUALITY[form] if auto else fields.integer("quality", 1, 100, DEFAULT_QUALITY[form]),
        auto=auto,
        lossless=fields.boolean("lossless", False) or form == "png",
        metadata=fields.choice("metadata", ("full", "minimal", "none"), "full"),
        icc=fields.boolean("icc", True),
        provenance=fields.boolean("provenance", False),
    )
    if output.provenance and output.metadata == "none":
        fields.conflict("provenance", "`metadata` is none, which strips everything; leave one of the two out.")
    if output.lossless and form in ("avif", "jpeg"):
        fields.conflict("lossless", f"{form} cannot be lossless here; use webp or png.")
    elif output.lossless and fields.given("quality"):
        fields.conflict("quality", "A lossless picture has no quality; leave it out.")
    return output
