"""The size of a performance, and what comes of one."""

from dataclasses import dataclass

TASKS, STEPS = 12, 20
LIMIT_S = 180.0  # from the fault to the last task's end; generous, for machines that do other work beside
MOMENTS = ("waiting", "mid-batch", "after the GPU")


@dataclass(frozen=True)
class Result:
    """One fault at one moment. Times in seconds from the fault: until every task that ran then had run on (claimed anew
    or generated), and until all had ended. `states` of the tasks at the end.
    """

    fault: str
    moment: str
    ran_on: float | None
    recovered: float | None
    lost: int
    doubled: int
    states: dict[str, int]

    @property
    def good(self) -> bool:
        return self.lost == 0 and self.doubled == 0 and self.recovered is not None
