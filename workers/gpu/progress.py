"""How far the running tasks are: events for those who watch, the row for those who poll, measured speed for estimates.

All of it may be lost without harm, so none of it ever delays the engine: one side thread, and whatever comes while it
is busy is dropped in favour of the next report.
"""

import base64
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from uuid import UUID

import cv2
import numpy as np
from django.db import Error, close_old_connections
from redis.exceptions import RedisError

from generation.tasks import estimates, events, states
from workers.engine.requests import Event, Progress
from workers.gpu.running_tasks import RunningTask

logger = logging.getLogger(__name__)
EVENT_EVERY_S = 0.2  # at most five events a second for one task
ROW_EVERY_S = 1.0
SPEED_EVERY_S = 1.0


class ProgressReporter:
    """Used by the engine thread; what it publishes happens in its own."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reporter")
        self._busy: Future[None] | None = None
        self._published: dict[str, float] = {}
        self._written: dict[str, float] = {}
        self._pace = Pace(time.monotonic())

    def report(self, running: Mapping[str, RunningTask], step_events: Sequence[Event], *, tasks_wait: bool) -> None:
        """What one step brought. With `tasks_wait` besides, batches are as full as they can be."""
        now = time.monotonic()
        known = [event for event in step_events if event.sample_id.task_id in running]
        progress = [event for event in known if isinstance(event, Progress)]
        batches = {event.sample_id: running[event.sample_id.task_id].task for event in progress}
        self._pace.stepped([(task.batch_key, task.width * task.height) for task in batches.values()], tasks_wait, now)
        if self._busy is not None and not self._busy.done():
            return
        jobs = [job for event in progress for job in self._jobs(running, event, now)]
        if measured := self._pace.measured(now):
            jobs.append(partial(estimates.note, measured))
        if jobs:
            self._busy = self._thread.submit(_run_all, jobs)
        for memory in (self._published, self._written):
            for task_id in memory.keys() - running.keys():
                del memory[task_id]

    def _jobs(self, running: Mapping[str, RunningTask], event: Progress, now: float) -> list[Callable[[], None]]:
        task_id = event.sample_id.task_id
        task = running[task_id]
        jobs: list[Callable[[], None]] = []
        if event.preview is not None:
            data = {"index": event.sample_id.index, "jpeg": _jpeg(event.preview)}
            jobs.append(partial(events.publish, UUID(task_id), "preview", data))
        if now - self._published.get(task_id, 0.0) >= EVENT_EVERY_S:
            self._published[task_id] = now
            step, steps = task.steps
            jobs.append(partial(events.publish_progress, UUID(task_id), task.percent, step, steps))
        if now - self._written.setdefault(task_id, now) >= ROW_EVERY_S:
            self._written[task_id] = now
            report = partial(states.report_progress, worker=self.worker, attempt=task.task.attempt)
            jobs.append(partial(report, UUID(task_id), task.percent))
        return jobs


class Pace:
    """Measures steps, for the estimates: seconds of a step by batch key, and of a megapixel-step in full batches."""

    def __init__(self, now: float) -> None:
        self._begin(now)
        self._last_step = now

    def _begin(self, now: float) -> None:
        self._since = now
        self._steps: Counter[str] = Counter()
        self._work, self._always_full = 0.0, True

    def stepped(self, samples: Sequence[tuple[str, int]], full: bool, now: float) -> None:
        """One step of samples, as (batch key, pixels), in `full` batches or not. Time in which nothing ran does not
        count.
        """
        if not samples:
            return
        if now - self._last_step > SPEED_EVERY_S:
            self._begin(now)
        else:
            self._steps.update({key for key, _ in samples})
            self._work += sum(pixels for _, pixels in samples) / 1e6
            self._always_full = self._always_full and full
        self._last_step = now

    def measured(self, now: float) -> dict[str, float]:
        """The fields of generation.tasks.estimates' hash, once SPEED_EVERY_S; nothing in between."""
        took = now - self._since
        if not self._steps or took < SPEED_EVERY_S:
            return {}
        measured = {key: took / steps for key, steps in self._steps.items()}
        if self._always_full:
            measured["full"] = took / self._work
        self._begin(now)
        return measured


def _run_all(jobs: Sequence[Callable[[], None]]) -> None:
    close_old_connections()
    for job in jobs:
        try:
            job()
        except (RedisError, Error) as error:
            logger.warning("progress not published: %s", error)


def _jpeg(preview: np.ndarray) -> str:
    """uint8 [h, w, 3] RGB as base64 of a small JPEG."""
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(preview, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 70])
    return base64.b64encode(data.tobytes()).decode() if ok else ""
