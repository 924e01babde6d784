"""What a step costs beside the model: greenlets, schedulers, merging, policy. The denoiser is replaced by zeros."""

from __future__ import annotations

import itertools
import time
from typing import Any

import torch

from generation.catalogue.parameters import Parameters
from workers.engine import Engine, EngineConfig, ModelPool, SampleRequest
from workers.engine.requests import SampleId

SAMPLERS = ("euler", "euler_a", "dpm++", "dpm++_sde", "ddim", "unipc", "lcm")
STEPS = 24


def measure_overhead(pool: ModelPool, side: int, model: str = "bench@1") -> list[dict[str, float]]:
    """Milliseconds of CPU per step at 1, 8 and 16 samples, all with euler and with a mix of seven samplers."""
    heavy = pool.get(model).heavy["unet"]  # type: ignore[attr-defined]
    real = heavy.run
    heavy.run = _zeros
    try:
        return [
            {
                "samples": samples,
                "euler_ms": _per_step(pool, model, side, ["euler"] * samples),
                "mix_ms": _per_step(pool, model, side, list(itertools.islice(itertools.cycle(SAMPLERS), samples))),
            }
            for samples in (1, 8, 16)
        ]
    finally:
        heavy.run = real


def _zeros(**arguments: Any) -> tuple[torch.Tensor]:
    return (torch.zeros_like(arguments["sample"]),)


def _per_step(pool: ModelPool, model: str, side: int, samplers: list[str]) -> float:
    engine = Engine(pool, EngineConfig(batch_limits={2048: len(samplers)}))
    for number, sampler in enumerate(samplers):
        engine.admit(
            SampleRequest(
                sample_id=SampleId(f"o{number}", 0), priority=2, model=model,
                parameters=Parameters("text2img", "a cat", "", side, side, STEPS, 5.0, sampler, seed=number),
            )
        )  # fmt: skip
    engine.step()
    times = []
    for _ in range(STEPS - 4):
        started = time.thread_time()
        engine.step()
        times.append(time.thread_time() - started)
    engine.discard_all()
    return round(1000 * sorted(times)[len(times) // 2], 3)
