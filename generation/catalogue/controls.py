"""What a model can make of a control picture: what would fail in its worker is refused here.

Edges are drawn from any photo; depth and poses only where the model's options name a preprocessor (docs/engine.md).
Where the request does not say whether a picture is a photo, its pixels decide, by the rule of
workers/engine/models/controls.py.
"""

from typing import Final

from PIL import ImageChops
from PIL.Image import Image as Picture

from generation.catalogue.models import ImageModel
from imagegenx_site.errors import Fault

DRAWN_BY_ALL: Final = "canny"
GREY_SPREAD: Final = 12  # of 255 between the channels of a grey pixel
DARK: Final = 32  # of 255


def photo_fault(model: ImageModel, control_type: str, ready: bool | None, picture: Picture) -> Fault | None:
    """A photo for a control type that nothing here can draw. `ready`: what the request says that the picture is."""
    if control_type == DRAWN_BY_ALL or control_type in model.options.get("preprocessors", {}):
        return None
    if ready or (ready is None and looks_ready(control_type, picture)):
        return None
    message = (
        f"This looks like a photo, and {model.name} has nothing here that draws {control_type} from one. "
        f"Send a ready {control_type} picture, or say `control_ready: true` if it is one."
    )
    return Fault("control_image", "not_available", message)


def looks_ready(control_type: str, picture: Picture) -> bool:
    """Whether an RGB picture is a control picture: depth is grey, poses are on black. Other types are not judged."""
    red, green, blue = picture.split()
    brightest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    if control_type == "depth":
        darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
        return _part(ImageChops.subtract(brightest, darkest), GREY_SPREAD + 1) > 0.98
    if control_type == "openpose":
        return _part(brightest, DARK) > 0.5
    return True


def _part(channel: Picture, below: int) -> float:
    """The part of a channel's pixels that are below a value."""
    counts = channel.histogram()
    return sum(counts[:below]) / sum(counts)
