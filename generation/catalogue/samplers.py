"""The samplers: their names in the API, what each is in diffusers, and what A1111 calls it. A pure value.

A new sampler is one entry here: the API's form, the engine and the compatible doors read this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

AUTO: Final = "auto"  # the model's own sampler


@dataclass(frozen=True)
class Sampler:
    """`scheduler`: a class of diffusers. `settings` are laid over those of the model's own scheduler. `a1111`: the
    name that AUTOMATIC1111's API knows it by."""

    name: str
    scheduler: str
    a1111: str
    settings: Mapping[str, Any] = field(default_factory=dict)


_KARRAS: Final = {"use_karras_sigmas": True}
_SDE: Final = {"algorithm_type": "sde-dpmsolver++"}
_TABLE: Final = (
    Sampler("euler", "EulerDiscreteScheduler", "Euler"),
    Sampler("euler_a", "EulerAncestralDiscreteScheduler", "Euler a"),
    Sampler("dpm++", "DPMSolverMultistepScheduler", "DPM++ 2M"),
    Sampler("dpm++_karras", "DPMSolverMultistepScheduler", "DPM++ 2M Karras", _KARRAS),
    Sampler("dpm++_sde", "DPMSolverMultistepScheduler", "DPM++ SDE", _SDE),
    Sampler("dpm++_sde_karras", "DPMSolverMultistepScheduler", "DPM++ SDE Karras", _SDE | _KARRAS),
    Sampler("ddim", "DDIMScheduler", "DDIM"),
    Sampler("unipc", "UniPCMultistepScheduler", "UniPC"),
    Sampler("lcm", "LCMScheduler", "LCM"),
    Sampler("heun", "HeunDiscreteScheduler", "Heun"),
)

SAMPLERS: Final[Mapping[str, Sampler]] = {sampler.name: sampler for sampler in _TABLE}
BY_A1111_NAME: Final[Mapping[str, Sampler]] = {sampler.a1111: sampler for sampler in _TABLE}
NAMES: Final = (AUTO, *SAMPLERS)
"""What a request may ask for."""
