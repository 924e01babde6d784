"""What becomes of a request when more waits than the workers can do in reasonable time. Pure: numbers in, a verdict
out; `CrowdControl` is one request's way through it.

    seconds of work waiting   below lower_s   from lower_s                        from refuse_s
    paid plan                 accept          accept                              accept
    other plans               accept          longer than lowered_side: lowered   refused, with the seconds until
                                              to it, and the answer says so       it will be below lower_s

Seconds, not tasks: what waits is counted in pixel-steps and divided by the measured speed of the workers
(estimates.seconds_waiting).
"""

import math
from dataclasses import dataclass

from imagegenx_site.config import SurgeConfig

SIDE_STEP = 8  # pixels


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


class CrowdControl:
    """The table for one request: first whether it is let in, then the size that it gets."""

    def __init__(self, waiting_s: float, *, paid: bool, least_side: int, config: SurgeConfig) -> None:
        self._waiting_s, self._paid, self._least_side, self._config = waiting_s, paid, least_side, config
        self.lowered_from = ""  # the size asked for, once `fit` has made it smaller

    def fit(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size to make: smaller than `size` in a surge, unless the model makes none so small."""
        verdict = judge(self._waiting_s, paid=self._paid, width=size[0], height=size[1], config=self._config)
        if verdict.refused or not verdict.lowered or min(verdict.width, verdict.height) < self._least_side:
            return size
        self.lowered_from = f"{size[0]}x{size[1]}"
        return verdict.width, verdict.height

    @property
    def retry_after(self) -> int:
        """Seconds after which to come back; 0: let in."""
        return judge(
            self._waiting_s, paid=self._paid, width=SIDE_STEP, height=SIDE_STEP, config=self._config
        ).retry_after


def _scaled(side: int, factor: float) -> int:
    """To a multiple of eight, as the models need it, and never below what they can do."""
    return max(256, round(side * factor / SIDE_STEP) * SIDE_STEP)
