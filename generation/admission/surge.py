"""Lowers or refuses requests while the queue is longer than the workers can process in reasonable time. Pure: numbers
in, a decision out.

    seconds of work waiting   below lower_s   from lower_s                        from refuse_s
    paid plan                 accept          accept                              accept
    other plans               accept          sides over lowered_side are scaled  refuse, with the seconds until
                                              down to it, and the answer says so  it will be below lower_s

The queue is measured in seconds, not in tasks: its pixel-steps divided by the measured speed of the workers
(estimates.seconds_waiting).
"""

import math
from dataclasses import dataclass

from imagegenx_site.config import SurgeConfig

SIDE_STEP = 8  # pixels


@dataclass(frozen=True)
class SurgeDecision:
    """`width` and `height` to generate, `lowered` if smaller than requested; `retry_after` s when refused, else 0."""

    width: int
    height: int
    lowered: bool = False
    retry_after: int = 0

    @property
    def refused(self) -> bool:
        return self.retry_after > 0


def decide(waiting_s: float, *, paid: bool, width: int, height: int, config: SurgeConfig) -> SurgeDecision:
    """The table above."""
    if paid or waiting_s < config.lower_s:
        return SurgeDecision(width, height)
    if waiting_s >= config.refuse_s:
        retry = min(config.longest_retry_s, math.ceil(waiting_s - config.lower_s))
        return SurgeDecision(width, height, retry_after=max(1, retry))
    longest = max(width, height)
    if longest <= config.lowered_side:
        return SurgeDecision(width, height)
    factor = config.lowered_side / longest
    return SurgeDecision(_scaled(width, factor), _scaled(height, factor), lowered=True)


class SurgeControl:
    """The table for one request: whether it is admitted, and at what size."""

    def __init__(self, waiting_s: float, *, paid: bool, least_side: int, config: SurgeConfig) -> None:
        self._waiting_s, self._paid, self._least_side, self._config = waiting_s, paid, least_side, config
        self.lowered_from = ""  # the requested size, if `fit` has lowered it

    def fit(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size to generate: lowered in a surge, unless that is below the model's smallest side."""
        decision = decide(self._waiting_s, paid=self._paid, width=size[0], height=size[1], config=self._config)
        if decision.refused or not decision.lowered or min(decision.width, decision.height) < self._least_side:
            return size
        self.lowered_from = f"{size[0]}x{size[1]}"
        return decision.width, decision.height

    @property
    def retry_after(self) -> int:
        """Seconds after which the client may retry; 0: admitted."""
        return decide(
            self._waiting_s, paid=self._paid, width=SIDE_STEP, height=SIDE_STEP, config=self._config
        ).retry_after


def _scaled(side: int, factor: float) -> int:
    """A multiple of 8, as the models need it, and at least 256."""
    return max(256, round(side * factor / SIDE_STEP) * SIDE_STEP)
