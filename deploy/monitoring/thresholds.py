"""From when on somebody is called: each number an environment variable, read when the rules are written
(`python -m deploy.monitoring`).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

VARIABLES: Final = (
    "ALERT_WAITING_P0_S",
    "ALERT_WAITING_S",
    "ALERT_FAILED_PART",
    "ALERT_EXPIRED_PART",
    "ALERT_HTTP_ERRORS_PART",
    "ALERT_HTTP_P95_S",
    "ALERT_STEP_P95_S",
    "ALERT_STAGE_FAILED_PART",
    "ALERT_AFTER_GPU_MESSAGES",
    "ALERT_DISK_FREE_PART",
    "ALERT_SPOOL_FULL_PART",
    "ALERT_REDIS_BYTES",
    "ALERT_WEBHOOKS_PENDING",
    "ALERT_WEBHOOKS_GIVEN_UP_PART",
)


def field_of(variable: str) -> str:
    """`waiting_s` of ALERT_WAITING_S."""
    return variable.removeprefix("ALERT_").lower()


@dataclass(frozen=True)
class Thresholds:
    """Parts are 0 to 1."""

    waiting_p0_s: float = 5  # age of the oldest waiting task of P0
    waiting_s: float = 60  # of the other classes
    failed_part: float = 0.05  # of a model's tasks
    expired_part: float = 0.01  # of all tasks: they waited in vain
    http_errors_part: float = 0.01  # answers with 5xx
    http_p95_s: float = 1  # of requests that do not wait for a picture
    step_p95_s: float = 5  # a shared denoising step
    stage_failed_part: float = 0.05  # tries of a stage after the GPU
    after_gpu_messages: float = 500  # on the queues after the GPU
    disk_free_part: float = 0.1  # warned below it; below half of it critical
    spool_full_part: float = 0.5  # of what the spool may hold
    redis_bytes: float = 4 << 30
    webhooks_pending: float = 1000
    webhooks_given_up_part: float = 0.05

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> "Thresholds":
        """Raises ValueError with the variable's name for what is no positive number."""
        given: dict[str, float] = {}
        for variable in VARIABLES:
            if text := env.get(variable):
                try:
                    number = float(text)
                except ValueError:
                    number = -1
                if not 0 < number < float("inf"):
                    raise ValueError(f"{variable} is {text!r}; it may be a number above 0.")
                given[field_of(variable)] = number
        return cls(**given)
