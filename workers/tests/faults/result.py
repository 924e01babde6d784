"""The size of a performance, and what comes of one."""

from dataclasses import dataclass

TASKS, STEPS = 24, 20
LIMIT_S = 60.0  # from the fault to the last task's end
MOMENTS = ("waiting", "mid-batch", "after the GPU")


@dataclass(frozen=True)
class Result:
    """One fault at one moment. Times in seconds from the fault; `states` of the tasks at the end."""

    fault: str
    moment: str
    recovered: float | None
    lost: int
    doubled: int
    states: dict[str, int]

    @property
    def good(self) -> bool:
        return self.lost == 0 and self.doubled == 0 and self.recovered is not None
