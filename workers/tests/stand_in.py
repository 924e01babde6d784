"""A GPU worker whose engine sleeps instead of computing: same loop, same interfaces, steps of a known length, faults
on request.

    celery -A imagegenx_site worker -I workers.tests.stand_in ...

The environment variable STAND_IN_STEP is the seconds of a step. Words in a task's prompt make it misbehave: `poison`
kills the process in its second step, `hang` never returns from it, `fail` ends as a failed inference, `refuse` as the
caller's fault, `device` raises out of the engine as a lost device does.
"""

import os
import signal
import time

import numpy as np

from imagegenx_site.celery import app
from workers.engine.requests import Cancelled, Event, Failed, Finished, Progress, SampleRequest
from workers.gpu_worker import install
from workers.models.spec import ModelSpec

STEP_S = float(os.environ.get("STAND_IN_STEP", "0.05"))
BATCH = 8


class SleepingEngine:
    """Serves the key of the oldest sample, P0 first, like the real one; a step takes STEP_S whatever the batch."""

    def __init__(self) -> None:
        self.board: dict[str, tuple[SampleRequest, int]] = {}
        self.cancelled: set[str] = set()
        self.warm_key: str | None = None

    @property
    def idle(self) -> bool:
        return not self.board

    full_of_paused = False

    def surplus(self) -> list[str]:
        return []

    def room(self, model: str, width: int, height: int, priority: int) -> int:
        key = f"{model}:{width}x{height}"
        same = [request for request, _ in self.board.values() if request.batch_key == key]
        return BATCH - sum(1 for request in same if priority or not request.priority)

    def admit(self, request: SampleRequest) -> None:
        self.board[request.sample_id] = (request, 0)

    def cancel(self, sample_id: str) -> None:
        self.cancelled.add(sample_id)

    def discard_all(self) -> None:
        self.board.clear()

    def step(self) -> list[Event]:
        events: list[Event] = [Cancelled(id_) for id_ in self.cancelled if self.board.pop(id_, None)]
        self.cancelled.clear()
        requests = [request for request, _ in self.board.values()]
        if not requests:
            self.warm_key = None
            return events
        urgent = [request for request in requests if request.priority == 0]
        leader = min(urgent or requests, key=lambda request: request.arrived)
        self.warm_key = leader.batch_key
        members = [request for request in requests if request.batch_key == leader.batch_key][:BATCH]
        time.sleep(STEP_S)
        for request in urgent or members:
            events += self.advance(request)
        return events

    def advance(self, request: SampleRequest) -> list[Event]:
        step = self.board[request.sample_id][1] + 1
        self.board[request.sample_id] = (request, step)
        if step == 2:
            self.misbehave(request.prompt)
        if step == 2 and ("fail" in request.prompt or "refuse" in request.prompt):
            del self.board[request.sample_id]
            return [Failed(request.sample_id, RuntimeError("asked to fail"), retryable="fail" in request.prompt)]
        progress = Progress(request.sample_id, step, request.steps)
        if step < request.steps:
            return [progress]
        del self.board[request.sample_id]
        picture = np.full((request.height, request.width, 3), request.seed % 256 / 255, np.float32)
        return [progress, Finished(request.sample_id, picture)]

    def misbehave(self, prompt: str) -> None:
        if "poison" in prompt:
            os.kill(os.getpid(), signal.SIGKILL)
        if "hang" in prompt:
            time.sleep(3600)
        if "device" in prompt:
            raise RuntimeError("the device is gone")


class EmptyPool:
    """Every model is there."""

    def ensure(self, spec: ModelSpec) -> None:
        pass

    def loaded(self) -> None:
        pass

    def unload_idle(self) -> list[str]:
        return []


install(app, lambda: (EmptyPool(), SleepingEngine()))
