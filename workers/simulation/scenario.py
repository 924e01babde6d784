"""What is simulated: a mix of pictures, their arrivals, and what a step costs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from generation.queue.values import BatchKey

REFERENCE_PIXELS = 512 * 512


@dataclass(frozen=True)
class StepCost:
    """Milliseconds of one shared step at 512x512, and `after_ms` of text and image coding per picture."""

    fixed_ms: float
    per_sample_ms: float
    floor_ms: float = 0.0
    after_ms: float = 10.0

    def seconds(self, samples: int, pixels: int) -> float:
        scale = pixels / REFERENCE_PIXELS
        return max(self.floor_ms, self.fixed_ms + self.per_sample_ms * scale * samples) / 1000


@dataclass(frozen=True)
class TrafficKind:
    """A part of the mix: its weight, class, size and steps."""

    weight: float
    priority: int
    side: int
    steps: int


@dataclass(frozen=True)
class Scenario:
    """`per_day` pictures, multiplied by `peak` for the simulated stretch of `seconds`, on `devices`."""

    per_day: float
    devices: int
    cost: StepCost
    mix: Sequence[TrafficKind]
    peak: float = 2.0
    seconds: float = 300.0
    batch: int = 8
    admission_ms: float = 8.0  # from a claim until its rows are won; it runs from the next step boundary on
    seed: int = 1

    @property
    def rate(self) -> float:
        """Pictures per second in the simulated stretch."""
        return self.per_day * self.peak / 86_400


@dataclass
class Sample:
    """One picture on its way. Times in simulated seconds; `started` is where its first step begins."""

    kind: TrafficKind
    arrived: float
    left: int
    passed_over: int = 0
    started: float = -1.0
    finished: float = -1.0

    @property
    def key(self) -> BatchKey:
        return BatchKey("sim@1", self.kind.side, self.kind.side)


def arrivals(scenario: Scenario) -> list[Sample]:
    """When which pictures are asked for; the same for the same scenario."""
    chance = random.Random(scenario.seed)
    weights = [kind.weight for kind in scenario.mix]
    now, coming = 0.0, []
    while (now := now + chance.expovariate(scenario.rate)) < scenario.seconds:
        (kind,) = chance.choices(scenario.mix, weights)
        coming.append(Sample(kind, now, kind.steps))
    return coming
