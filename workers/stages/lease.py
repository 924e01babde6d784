"""The lease on a stage, held in the task's row: taken before the work, renewed while it takes long."""

import socket
import time
import uuid
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from django.conf import settings

from generation.tasks import events, states
from generation.tasks.models import Status, Task
from generation.tasks.stages import Stage
from imagegenx_site import caches

PUBLISH_EVERY_S: Final = 0.5  # between two progress events of one group


def take(stage: Stage, task_id: str) -> Task | None:
    """The task, leased to a new owner (its `stage_owner`); None when it is elsewhere or somebody works on it."""
    owner = f"{socket.gethostname()}:{uuid.uuid4().hex[:8]}"
    task = states.take_stage(UUID(task_id), stage, owner, settings.STAGE_SECONDS)
    return task and announce_begin(task)


def announce_begin(task: Task) -> Task:
    """Tell polls and watchers that a task without a model is no longer queued, now that its first stage is leased."""
    if task.model_id is None and task.status == Status.GENERATED and task.stage_attempts == 1:
        caches.tasks().invalidate(str(task.id), also=lambda pipe: events.add_status(pipe, task.id, task.status))
    return task


class LeaseRenewer:
    """Called while pictures are processed, with the done part (0 to 1): renews the leases of their tasks, which one
    owner holds, and publishes the part as the progress of an enlargement.
    """

    def __init__(self, group: Sequence[Task]) -> None:
        self._group, self._owner = group, group[0].stage_owner
        self._published = self._renewed = time.monotonic()

    def __call__(self, part: float) -> None:
        """Raises TimeoutError when the lease is lost."""
        now = time.monotonic()
        if now - self._renewed > settings.STAGE_SECONDS / 4:
            self._renewed = now
            if not states.renew_stage(self._owner, settings.STAGE_SECONDS):
                raise TimeoutError("the lease ran out: somebody else works on it")
        if now - self._published > PUBLISH_EVERY_S or part >= 1:
            self._published = now
            for task in self._group:
                events.publish(task.id, "enlarging", {"progress": round(100 * part)})
