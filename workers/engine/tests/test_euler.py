"""The quicker Euler is diffusers' own to the bit, in every setting that the catalogue or a model's folder names."""

from typing import Any

import diffusers
import pytest
import torch

from workers.engine.models.euler import EulerDiscreteScheduler

SETTINGS: list[dict[str, Any]] = [
    {},
    {"prediction_type": "v_prediction"},
    {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    {"use_karras_sigmas": True},
    {"use_exponential_sigmas": True},
    {"timestep_spacing": "trailing", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"timestep_spacing": "leading", "steps_offset": 1, "interpolation_type": "log_linear"},
    {"prediction_type": "sample"},
    {"final_sigmas_type": "sigma_min"},
]


def run(scheduler: Any, steps: int, dtype: torch.dtype, start: int = 0, **how: Any) -> list[torch.Tensor]:
    """Every input and sample on the way; the model's outputs are noise."""
    noise = torch.Generator().manual_seed(5)
    scheduler.set_timesteps(steps)
    if start:
        scheduler.set_begin_index(start)
    sample = torch.randn(1, 4, 8, 8, generator=noise, dtype=torch.float32).to(dtype) * scheduler.init_noise_sigma
    seen = []
    for timestep in scheduler.timesteps[start:]:
        seen.append(scheduler.scale_model_input(sample, timestep))
        output = torch.randn(1, 4, 8, 8, generator=noise).to(dtype)
        sample, without_noise = scheduler.step(output, timestep, sample, return_dict=False, **how)
        seen += [sample, without_noise]
    return seen


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_sample_is_equal_to_the_bit(settings: dict[str, Any], dtype: torch.dtype) -> None:
    for steps, start in ((1, 0), (2, 1), (20, 0), (20, 13), (50, 0)):
        ours = run(EulerDiscreteScheduler(**settings), steps, dtype, start)
        theirs = run(diffusers.EulerDiscreteScheduler(**settings), steps, dtype, start)
        assert len(ours) == len(theirs)
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(ours, theirs, strict=True))


def test_churn_is_diffusers_own() -> None:
    ours = run(EulerDiscreteScheduler(), 8, torch.float32, s_churn=2.0, generator=torch.Generator().manual_seed(1))
    theirs = run(
        diffusers.EulerDiscreteScheduler(), 8, torch.float32, s_churn=2.0, generator=torch.Generator().manual_seed(1)
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
