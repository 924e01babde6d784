"""What becomes of a request when more waits than the workers can do in reasonable time. Pure: numbers in, a verdict
out.

    seconds of work waiting   below lower_s   from lower_s                        from refuse_s
    paid plan                 accept          accept                              accept
    other plans               accept          longer than lowered_side: lowered   refused, with the seconds until
                                              to it, and the answer says so       it will be below lower_s

Seconds, not tasks: what waits is counted in pixel-steps (tickets.backlog) and divided by the measured speed of the
workers.
"""

import math
from dataclasses import dataclass

SIDE_STEP = 8  # pixels


@dataclass(frozen=True)
class SurgeConfig:
    """`lower_s`, `refuse_s`: seconds of waiting work. `lowered_side`: longest side of a lowered picture, in pixels."""

    lower_s: float = 60.0
    refuse_s: float = 240.0
    lowered_side: int = 512
    longest_retry_s: int = 600


@dataclass(frozen=True)
class Verdict:
    """`width` and `height` to make, `lowered` if smaller than asked for; `retry_after` s when refused, else 0."""

    width: int
    height: int
    lowered: bool = False
    retry_after: int = 0

    @property
    def refused(self) -> bool:
        return self.retry_after > 0


def seconds_waiting(work: float, seconds_per_unit: float, workers: int) -> float:
    """How long the workers have to do with what waits; `work` and `seconds_per_unit` (one worker) in the same unit."""
    return work * seconds_per_unit / max(1, workers)


def judge(waiting_s: float, *, paid: bool, width: int, height: int, config: SurgeConfig) -> Verdict:
    """The table above."""
    if paid or waiting_s < config.lower_s:
        return Verdict(width, height)
    if waiting_s >= config.refuse_s:
        retry = min(config.longest_retry_s, math.ceil(waiting_s - config.lower_s))
        return Verdict(width, height, retry_after=max(1, retry))
    longest = max(width, height)
    if longest <= config.lowered_side:
        return Verdict(width, height)
    factor = config.lowered_side / longest
    return Verdict(_scaled(width, factor), _scaled(height, factor), lowered=True)


def _scaled(side: int, factor: float) -> int:
    """To a multiple of eight, as the models need it, and never below what they can do."""
    return max(256, round(side * factor / SIDE_STEP) * SIDE_STEP)
