"""The diffusers scheduler of each sampler of generation/catalogue/samplers.py. To add a sampler, add an entry there.

A scheduler has state (its step index, earlier model outputs), so every sample gets its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import diffusers

from generation.catalogue.samplers import AUTO, NAMES, SAMPLERS
from workers.engine.errors import InvalidSample
from workers.engine.models.euler import EulerDiscreteScheduler

LCM_STEPS = 50  # what LCM models are distilled from
QUICKER: Final = {diffusers.EulerDiscreteScheduler: EulerDiscreteScheduler}  # the same numbers from less work


@dataclass(frozen=True)
class SchedulerChoice:
    """A scheduler before it is made: its class and settings. Equal choices make equal schedulers."""

    scheduler_class: Any
    settings: tuple[tuple[str, Any], ...]

    def make(self, own: Any) -> Any:
        """A fresh scheduler. `own` is the model's, whose noise schedule is kept."""
        made = QUICKER.get(self.scheduler_class, self.scheduler_class)
        return made.from_config(own.config, **dict(self.settings))


def choose_scheduler(own: Any, sampler: str, steps: int) -> SchedulerChoice:
    """What `sampler` means for a model whose own scheduler is `own`.

    Raises InvalidSample for a name that is not in the catalogue.
    """
    if sampler not in NAMES:
        raise InvalidSample(f"sampler {sampler!r} is not one of {', '.join(NAMES)}")
    if sampler == AUTO:
        scheduler_class, settings = type(own), {}
    else:
        entry = SAMPLERS[sampler]
        scheduler_class, settings = getattr(diffusers, entry.scheduler), dict(entry.settings)
    if issubclass(scheduler_class, diffusers.LCMScheduler):  # it refuses more steps than it was distilled from
        settings["original_inference_steps"] = max(LCM_STEPS, steps)
    return SchedulerChoice(scheduler_class, tuple(settings.items()))
