"""Euler's method with what its steps take from the noise schedule computed once for all samples of that schedule.

diffusers computes these numbers anew in each step of each sample, as tensors of one number: more than half of a step's
time. Here they are made by the same operations on the same tensors, so that a sample is equal to diffusers' own to the
bit. A step with churn is left to diffusers.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, Final, NamedTuple

import diffusers
import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteSchedulerOutput

_SCHEDULES: Final = 64  # whose numbers are kept


class _Step(NamedTuple):
    """Tensors of one number for one step. `divisor`: of the model's input; `out`, `skip`: factor of the model's output
    and divisor of the sample under v-prediction; `change`: of the noise level up to the next step.
    """

    sigma: torch.Tensor
    divisor: torch.Tensor
    out: torch.Tensor
    skip: torch.Tensor
    change: torch.Tensor


class EulerDiscreteScheduler(diffusers.EulerDiscreteScheduler):
    """diffusers' scheduler of that name, quicker. The name is part of a saved configuration."""

    _numbers: tuple[_Step, ...] = ()

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        """As diffusers does, and the numbers of the steps."""
        super().set_timesteps(*args, **kwargs)
        self._numbers = _numbers_of(self.sigmas.detach().cpu().numpy().tobytes())

    def scale_model_input(self, sample: torch.Tensor, timestep: Any) -> torch.Tensor:
        """The model's input: the sample divided by (sigma**2 + 1) ** 0.5."""
        if self._step_index is None:
            self._init_step_index(timestep)
        self.is_scale_input_called = True
        return sample / self._numbers[self._step_index].divisor

    def step(
        self,
        model_output: torch.Tensor,
        timestep: Any,
        sample: torch.Tensor,
        *args: Any,
        return_dict: bool = True,
        **kwargs: Any,
    ) -> Any:
        """The sample one step further, in the model's dtype, and what it would be without noise."""
        prediction = self.config.prediction_type
        if args or kwargs.get("s_churn") or prediction not in ("epsilon", "v_prediction"):
            return super().step(model_output, timestep, sample, *args, return_dict=return_dict, **kwargs)
        if self._step_index is None:
            self._init_step_index(timestep)
        now, sample = self._numbers[self._step_index], sample.to(torch.float32)
        if prediction == "epsilon":
            without_noise = sample - now.sigma * model_output
        else:
            without_noise = model_output * now.out + sample / now.skip
        next_sample = (sample + (sample - without_noise) / now.sigma * now.change).to(model_output.dtype)
        self._step_index += 1
        if not return_dict:
            return next_sample, without_noise
        return EulerDiscreteSchedulerOutput(prev_sample=next_sample, pred_original_sample=without_noise)


@functools.lru_cache(_SCHEDULES)
def _numbers_of(sigmas: bytes) -> tuple[_Step, ...]:
    """`sigmas`: float32, one more than there are steps."""
    levels = torch.frombuffer(bytearray(sigmas), dtype=torch.float32)
    return tuple(_step(sigma, following) for sigma, following in itertools.pairwise(levels))


def _step(sigma: torch.Tensor, following: torch.Tensor) -> _Step:
    squared = sigma**2 + 1
    return _Step(sigma, squared**0.5, -sigma / squared**0.5, squared, following - sigma)
