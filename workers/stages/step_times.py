"""How long the steps of post-processing take: the children of the span `postprocess`. Only while traces are on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from generation.tasks.models import Task
from imagegenx_site.tracing import spans
from imagegenx_site.tracing.values import TaskSpan, root_of


@dataclass
class StepTimes:
    """Steps by name: (first beginning, last end, s of work in between), in Unix seconds. A group of pictures goes
    through a step together, or one after another.
    """

    began: float = field(default_factory=time.time)
    steps: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Round a step."""
        began = time.time()
        try:
            yield
        finally:
            ended = time.time()
            first, _, busy = self.steps.get(step, (began, ended, 0.0))
            self.steps[step] = (first, ended, busy + ended - began)

    def record(self, task: Task, group: int, error: str = "") -> None:
        """The spans of one task of the group: its own, and a child for each step so far."""
        own = (root_of(task.id) + 0x1000 + task.stage_attempts) & (2**64 - 1)
        fields = {"group": group, "try": task.stage_attempts}
        spans.record(TaskSpan(task.id, "postprocess", self.began, time.time(), fields, error, span_id=own))
        for name, (began, ended, busy) in self.steps.items():
            spans.record(TaskSpan(task.id, name, began, ended, {"busy_s": round(busy, 4)}, parent=own))
