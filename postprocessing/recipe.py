"""What is done to a picture, in the order it is done: the `postprocess` block of a request as frozen values.

docs/postprocessing.md has the JSON form. Recipes are compared by value: pictures with equal recipes are processed as
one batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, Self

from imagegenx_site.errors import Fault
from imagegenx_site.schema import Boolean, Choice, Field, Integer, List, Number, Object, OneOrList, Pair, WordOr
from postprocessing.quality import DEFAULT_QUALITY
from postprocessing.watermark_form import MARK, Mark

Curve = tuple[tuple[float, float], ...]
FORMATS: Final = ("webp", "avif", "png", "jpeg")
IDENTITY: Final[Curve] = ((0.0, 0.0), (1.0, 1.0))


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
        style = STYLE.read({} if style_tone is None else style_tone, "style.tone", faults)
        values = BLOCK.read({} if block is None else block, path, faults)
        if faults:
            raise RecipeError(faults)
        return cls(
            basic=Basic(**_named(values, "brightness", "contrast", "white_balance", "denoise")),
            upscale=values.get("upscale"),
            tone=_tone(values, style),
            white_background=values.get("white_background", style.get("white_background", False)),
            watermarks=values.get("watermark", ()),
            output=_output(values),
        )

    @property
    def late(self) -> bool:
        """True when a first version is delivered before the whole recipe is done."""
        return self.upscale is not None and self.upscale.late

    def marked(self, mark: Mapping[str, Any]) -> Self:
        """The recipe with a further watermark, drawn last; an empty one changes nothing. Raises RecipeError."""
        if not mark:
            return self
        faults: list[Fault] = []
        further = MARKS.read(mark, "watermark", faults)
        if further is None:
            raise RecipeError(faults)
        return replace(self, watermarks=self.watermarks + further)

    def first_version(self) -> Self:
        """The recipe without its late steps."""
        return replace(self, upscale=None) if self.late else self


def _rises(curve: Curve) -> str:
    inputs = [pair[0] for pair in curve]
    rises = inputs[0] == 0 and inputs[-1] == 1 and all(a < b for a, b in pairwise(inputs))
    return "" if rises else "The first numbers of the pairs must rise from 0 to 1."


def _provenance_needs_metadata(values: Mapping[str, Any]) -> Fault | None:
    if values.get("provenance") and values.get("metadata") == "none":
        message = "`metadata` is none, which strips everything; leave one of the two out."
        return Fault("provenance", "conflict", message)
    return None


def _lossless_has_no_quality(values: Mapping[str, Any]) -> Fault | None:
    form = values.get("format", Output.format)
    if not (values.get("lossless") or form == "png"):
        return None
    if form in ("avif", "jpeg"):
        return Fault("lossless", "conflict", f"{form} cannot be lossless here; use webp or png.")
    if "quality" in values:
        return Fault("quality", "conflict", "A lossless picture has no quality; leave it out.")
    return None


CURVE: Final = List(Pair(1.0), 2, 16, "pairs", form="Give a list of pairs [in, out].", rule=_rises)
MARKS: Final = OneOrList(List(MARK, 1, 4, "watermarks"))
UPSCALE: Final = Object(
    {"scale": Choice((2, 4), required=True), "late": Boolean()},
    build=lambda values: Upscale(values["scale"], values.get("late", values["scale"] == 4)),
)
_GRADING: Final[Mapping[str, Field]] = {
    "saturation": Number(0.5, 2.0),
    "sharpen": Number(0.0, 2.0),
    "white_background": Boolean(),
}
STYLE: Final = Object({"curve": CURVE, **_GRADING})
BLOCK: Final = Object(
    {
        "brightness": Number(-1.0, 1.0),
        "contrast": Number(0.5, 2.0),
        "white_balance": Choice(("none", "auto")),
        "denoise": Number(0.0, 1.0),
        "upscale": UPSCALE,
        "tone": WordOr(("style", "none"), CURVE, refusal="it may be style, none or a list of pairs."),
        **_GRADING,
        "watermark": MARKS,
        "format": Choice(FORMATS),
        "quality": WordOr(("auto",), Integer(1, 100)),
        "lossless": Boolean(),
        "metadata": Choice(("full", "minimal", "none")),
        "icc": Boolean(),
        "provenance": Boolean(),
    },
    rules=(_provenance_needs_metadata, _lossless_has_no_quality),
)


def _tone(values: Mapping[str, Any], style: Mapping[str, Any]) -> Tone:
    curve = values.get("tone", "style")
    if curve == "style":
        curve = style.get("curve", IDENTITY)
    merged = {**style, **values}
    return Tone(curve=IDENTITY if curve == "none" else curve, **_named(merged, "saturation", "sharpen"))


def _output(values: Mapping[str, Any]) -> Output:
    form = values.get("format", Output.format)
    quality = values.get("quality", DEFAULT_QUALITY[form])
    auto = quality == "auto"
    return Output(
        format=form,
        quality=DEFAULT_QUALITY[form] if auto else quality,
        auto=auto,
        lossless=values.get("lossless", False) or form == "png",
        **_named(values, "metadata", "icc", "provenance"),
    )


def _named(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}
