"""`enable_hr` of A1111 as the super-resolution of this server. A1111 denoises the enlarged picture a second time; here
it is enlarged by a network, 2 or 4 times, and stays what it was.
"""

from collections.abc import Mapping
from typing import Any, Final

from generation.compat.a1111.form import flag, number, text, whole
from imagegenx_site.errors import Fault, InvalidRequest

UPSCALER: Final = "Super-resolution"
SCALES: Final = (2, 4)
NOTE: Final = (
    "enable_hr: enlarged by super-resolution, without a second denoising pass; hr_upscaler, hr_second_pass_steps, "
    "hr_sampler_name, hr_prompt and denoising_strength have no effect."
)


def upscale(asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """`params.postprocess.upscale`; None where the picture keeps its size. Raises InvalidRequest."""
    if not flag(asked, "enable_hr"):
        return None
    name = text(asked, "hr_upscaler")
    if name not in ("", "None", UPSCALER) and not name.startswith("Latent"):
        message = f"There is no upscaler {name[:60]}. Known: {UPSCALER}, and Latent, which means the same here."
        raise InvalidRequest([Fault("hr_upscaler", "not_allowed", message)])
    scale = _scale(asked)
    if scale == 1:
        return None
    if scale not in SCALES:
        message = f"Pictures are enlarged 2 or 4 times here; {scale:g} times is not possible."
        raise InvalidRequest([Fault("hr_scale", "not_allowed", message)])
    return {"scale": int(scale), "late": False}


def _scale(asked: Mapping[str, Any]) -> float:
    """hr_resize_x and hr_resize_y come before hr_scale, as in A1111. Raises InvalidRequest for an uneven pair."""
    wanted = {side: whole(asked, f"hr_resize_{axis}", 0) for side, axis in (("width", "x"), ("height", "y"))}
    factors = {wanted[side] / max(1, whole(asked, side, 512)) for side in wanted if wanted[side] > 0}
    if len(factors) > 1:
        message = "Width and height must be enlarged by the same factor, 2 or 4."
        raise InvalidRequest([Fault("hr_resize_x", "not_allowed", message)])
    return factors.pop() if factors else number(asked, "hr_scale", 2.0)
