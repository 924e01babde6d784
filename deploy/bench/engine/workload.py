"""The tasks of a run and when they come."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from generation.catalogue.parameters import Parameters
from workers.engine import SampleId, SampleRequest


@dataclass(frozen=True)
class Arrival:
    """A task and when it comes, in seconds from the start."""

    at: float
    request: SampleRequest


def workload(count: int, side: int, seed: int = 1) -> list[SampleRequest]:
    """Tasks as several users send them: few agree in steps, sampler and guidance; every seventh is P0."""
    chance = random.Random(seed)
    return [
        SampleRequest(
            sample_id=SampleId(f"t{number}", 0),
            priority=0 if chance.random() < 0.15 else 2,
            model="bench@1",
            parameters=Parameters(
                kind="text2img",
                text=f"a {chance.choice(['red', 'blue', 'green'])} {chance.choice(['circle', 'star', 'cat'])}",
                negative_text="",
                width=side,
                height=side,
                steps=chance.choice([4, 6, 8, 12]),
                cfg_scale=chance.choice([4.0, 7.5]),
                sampler=chance.choice(["euler", "dpm++", "ddim"]),
                seed=number,
            ),
        )
        for number in range(count)
    ]


def arrivals(requests: Sequence[SampleRequest], rate: float, seed: int = 2) -> list[Arrival]:
    """Poisson arrivals of `rate` tasks per second."""
    chance = random.Random(seed)
    now, planned = 0.0, []
    for request in requests:
        now += chance.expovariate(rate)
        planned.append(Arrival(now, replace(request, arrived=now)))
    return planned
