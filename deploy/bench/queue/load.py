"""The loads that queues are compared under, and what is said about a run of one.

The work stands for a GPU's: a step of n samples takes 7.5 + 10.5 n ms, the shape of `manage.py simulate --cost
h200-graphs`, 2.5 times slower, so that two workers fit on two cores. Eight at a time do 1.6 times what one does.

    calm    4 pictures/s: plain Celery can do 5.5, full batches 8.7
    busy    7 pictures/s: more than one at a time can do
    full    240 at once: half P0, so that for the first two thirds every class has something waiting
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workers.simulation.scenario import Sample, Scenario, StepCost, TrafficKind, arrivals

DEVICES, BATCH, STEPS, SIDE = 2, 8, 20, 256
PER_SAMPLE_MS = 10.5
COST = StepCost(7.5, PER_SAMPLE_MS * (512 / SIDE) ** 2, after_ms=0)  # StepCost counts in samples of 512x512
MIX = [TrafficKind(weight, class_, SIDE, STEPS) for weight, class_ in ((0.1, 0), (0.3, 1), (0.4, 2), (0.2, 3))]
RATES = {"calm": 4.0, "busy": 7.0}
LOADS = ("full", *RATES)  # in this order: the full one warms up what estimates are made of
FULL = (100, 60, 40, 40)  # tasks of P0 to P3
SHARES = (0.5, 0.3, 0.1, 0.1)
WATCHED = 2 / 3  # of the full load's starts: the part in which all classes wait


@dataclass(frozen=True)
class Stay:
    """One picture's way through a system: Unix seconds of its submission, of the beginning of its first step, and of
    its end.
    """

    priority: int
    submitted: float
    started: float
    finished: float


def scenario_of(load: str, seconds: float) -> Scenario:
    """A load as the simulator takes it."""
    rate = RATES.get(load, 1.0)
    return Scenario(rate * 86_400, DEVICES, COST, MIX, peak=1, seconds=seconds, batch=BATCH)


def samples_of(load: str, seconds: float, part: float = 1.0) -> list[Sample]:
    """Arrivals, the same at each call; `part` of the full load's tasks."""
    if load in RATES:
        return arrivals(scenario_of(load, seconds))
    kinds = [MIX[class_] for class_, count in enumerate(FULL) for _ in range(round(count * part))]
    random.Random(1).shuffle(kinds)
    return [Sample(kind, 0.0, kind.steps) for kind in kinds]


def summary(load: str, stays: Sequence[Stay], seconds: float) -> dict[str, Any]:
    """Pictures/s while the load came (the full one: until its end); waits until the first step by class in s; for the
    full load the classes' shares of the starts.
    """
    begun = min(stay.submitted for stay in stays)
    until = begun + seconds if load in RATES else max(stay.finished for stay in stays)
    done = sum(stay.finished <= until for stay in stays)
    waits = {
        f"P{class_}": spread([stay.started - stay.submitted for stay in stays if stay.priority == class_])
        for class_ in range(4)
    }
    found = {
        "tasks": len(stays),
        "per_second": round(done / (until - begun), 2),
        "waits": waits,
        "until_picture": spread([stay.finished - stay.submitted for stay in stays]),
    }
    return found if load in RATES else found | {"shares": shares(stays)}


def shares(stays: Sequence[Stay]) -> list[float]:
    """The classes' parts of the first starts."""
    first = sorted(stays, key=lambda stay: stay.started)[: round(len(stays) * WATCHED)]
    counted = Counter(stay.priority for stay in first)
    return [round(counted[class_] / len(first), 3) for class_ in range(4)]


def spread(values: Sequence[float]) -> list[float]:
    """[median, 95th percentile]."""
    return [part(values, 0.5), part(values, 0.95)]


def part(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies; 0 of none."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 4) if ordered else 0.0
