"""What a mask says: which part of the picture is painted anew. Each door has the rule of the API that it speaks.

door                 painted
/api/v1              white; a mask's transparent part counts as black
/v1 (OpenAI)         the transparent part
/sdapi/v1 (A1111)    with transparency: what is opaque, whatever its colour; else white.
                     `inpainting_mask_invert` swaps
"""

from typing import Final

from PIL import Image as Pillow
from PIL import ImageChops, ImageOps

from generation.tasks.inputs import Given, GivenMask, InputFault, MaskRule

_OPAQUE: Final = 128  # levels of alpha above this are painted, as A1111 rounds them


def within(area: Pillow.Image, mask: Pillow.Image) -> Pillow.Image:
    """What a grey mask paints within an area: at the area's size."""
    return ImageChops.multiply(area, mask.resize(area.size, Pillow.Resampling.BILINEAR))


def painted(mask: Pillow.Image, given: Given) -> Pillow.Image:
    """Grey: 255 is painted. `mask` is RGB or RGBA. Raises InputFault when the rule finds nothing to go by."""
    rule = given.rule if isinstance(given, GivenMask) else MaskRule.WHITE
    alpha = mask.getchannel("A") if mask.mode == "RGBA" else None
    grey = mask.convert("RGB").convert("L")
    if rule is MaskRule.TRANSPARENT:
        if alpha is None:
            raise InputFault("malformed", "The mask has no transparent part. It must be a PNG with transparency.")
        grey = ImageOps.invert(alpha)
    elif rule is MaskRule.OPAQUE and alpha is not None and alpha.getextrema() != (255, 255):
        grey = alpha.point([255 if level > _OPAQUE else 0 for level in range(256)])
    elif rule is MaskRule.WHITE and alpha is not None:
        grey = ImageChops.multiply(grey, alpha)
    return ImageOps.invert(grey) if isinstance(given, GivenMask) and given.inverted else grey
