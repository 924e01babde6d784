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
LCM_STEPS = 50  # what LCM models are distilled from


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


@dataclass(frozen=True)
class SchedulerChoice:
    """A scheduler before it is made: its class and settings. Equal choices make equal schedulers."""

    scheduler_class: Any
    settings: tuple[tuple[str, Any], ...]

    def make(self, own: Any) -> Any:
        """A fresh scheduler. `own` is the model's, whose noise schedule is kept."""
        return self.scheduler_class.from_config(own.config, **dict(self.settings))


def choose_scheduler(own: Any, sampler: str, steps: int) -> SchedulerChoice:
    """What `sampler` means for a model whose own scheduler is `own`.

    Raises InvalidRequest for a name that is not in SAMPLERS.
    """
    if sampler != AUTO and sampler not in SAMPLERS:
        raise InvalidRequest(f"sampler {sampler!r} is not one of {', '.join([AUTO, *SAMPLERS])}")
    choice = SAMPLERS.get(sampler)
    scheduler_class = getattr(diffusers, choice.class_name) if choice else type(own)
    settings = dict(choice.settings) if choice else {}
    if issubclass(scheduler_class, diffusers.LCMScheduler):  # it refuses more steps than it was distilled from
        settings["original_inference_steps"] = max(LCM_STEPS, steps)
    return SchedulerChoice(scheduler_class, tuple(settings.items()))
