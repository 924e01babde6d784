"""What became of a task on this worker, as one value. settlement.py acts upon it; nothing else does."""

from dataclasses import dataclass
from enum import StrEnum


class End(StrEnum):
    """The ways in which a claimed task leaves its worker."""

    FINISHED = "finished"  # every picture is there
    CANCELLED = "cancelled"
    TAKEN_OVER = "taken_over"  # another worker has it
    FAILED = "failed"  # its inference, or what comes before it
    RETURNED = "returned"  # paused work held too much memory
    STOPPED = "stopped"  # the worker was stopped first
    DEVICE_LOST = "device_lost"  # the device or the engine failed under it
    NOT_STORED = "not_stored"  # its pictures could not be kept
    NOT_RUNNABLE = "not_runnable"  # its row was cancelled, expired or ended before this worker could win it
    EXHAUSTED = "exhausted"  # begun as often as a task may be
    UNCLAIMED = "unclaimed"  # its row was out of reach


@dataclass(frozen=True)
class Outcome:
    """`error` of FAILED, DEVICE_LOST and NOT_STORED; `retryable` of FAILED: another try may succeed."""

    end: End
    error: BaseException | None = None
    retryable: bool = True
