"""Samplers by name: the diffusers scheduler class and what of its configuration the name decides.

A scheduler has state (its step index, earlier model outputs), so every sample gets its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers

from workers.engine.errors import InvalidRequest

AUTO = "auto"


@dataclass(frozen=True)
class Sampler:
    """`class_name` in diffusers, and the settings laid over those of the model's own scheduler."""

    class_name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


SAMPLERS: Mapping[str, Sampler] = {
    "euler": Sampler("EulerDiscreteScheduler"),
    "euler_a": Sampler("EulerAncestralDiscreteScheduler"),
    "dpm++": Sampler("DPMSolverMultistepScheduler"),
    "dpm++_karras": Sampler("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpm++_sde": Sampler("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm++_sde_karras": Sampler(
        "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True}
    ),
    "ddim": Sampler("DDIMScheduler"),
    "unipc": Sampler("UniPCMultistepScheduler"),
    "lcm": Sampler("LCMScheduler"),
    "heun": Sampler("HeunDiscreteScheduler"),
}


def make_scheduler(own: Any, sampler: str, steps: int) -> Any:
    """A fresh scheduler for one sample. `own` is the model's scheduler, whose noise schedule is kept.

    Raises InvalidRequest for a name that is not in SAMPLERS.
    """
    if sampler == AUTO:
        return type(own).from_config(own.config)
    try:
        choice = SAMPLERS[sampler]
    except KeyError:
        raise InvalidRequest(f"sampler {sampler!r} is not one of {', '.join([AUTO, *SAMPLERS])}") from None
    settings = dict(choice.settings)
    if choice.class_name == "LCMScheduler":  # it refuses more steps than it was distilled from
        settings["original_inference_steps"] = max(50, steps)
    return getattr(diffusers, choice.class_name).from_config(own.config, **settings)
