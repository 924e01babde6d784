"""Three servers over one loaded model, driven by a clock that belongs to the benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from workers.engine import Cancelled, Engine, EngineConfig, Failed, Finished, ModelPool, SampleId, SampleRequest
from workers.engine.models.diffusers_model import DiffusersModel

WINDOW = 0.05  # seconds that a static batch waits for company
LARGEST = 8  # samples of a batch, static or continuous


class Server(Protocol):
    """`take` a task; `work` some and give the ids that are finished; `idle_until`: nothing to do before that time."""

    last_batch: int

    def take(self, request: SampleRequest) -> None: ...

    def idle_until(self, now: float) -> float | None: ...

    def work(self, now: float) -> list[SampleId]: ...


class OneAtATime:
    """A stock pipeline call per task: P0 first, then by arrival."""

    last_batch = 1

    def __init__(self, model: DiffusersModel) -> None:
        self._model = model
        self._queue: list[SampleRequest] = []

    def take(self, request: SampleRequest) -> None:
        """Queue a task."""
        self._queue.append(request)

    def idle_until(self, now: float) -> float | None:
        """Idle for ever while the queue is empty."""
        return None if self._queue else float("inf")

    def work(self, now: float) -> list[SampleId]:
        """Run the next task from start to end."""
        request = min(self._queue, key=lambda one: (one.priority != 0, one.arrived))
        self._queue.remove(request)
        self._model.infer(request, lambda step, steps, preview: None)
        return [request.sample_id]


class StaticBatches:
    """Tasks with equal steps, sampler and guidance share a stock call."""

    last_batch = 0

    def __init__(self, model: DiffusersModel) -> None:
        self._model = model
        self._queue: list[SampleRequest] = []

    def take(self, request: SampleRequest) -> None:
        """Queue a task."""
        self._queue.append(request)

    def idle_until(self, now: float) -> float | None:
        """Idle until the first window closes, unless a batch is full or a window has closed already."""
        if not self._queue:
            return float("inf")
        closes = min(request.arrived for request in self._queue) + WINDOW
        full = any(len(self._mates(request)) >= LARGEST for request in self._queue)
        return None if full or closes <= now else closes

    def work(self, now: float) -> list[SampleId]:
        """Run the batch of the most urgent task."""
        leader = min(self._queue, key=lambda one: (one.priority != 0, one.arrived))
        batch = self._mates(leader)[:LARGEST]
        self._queue = [request for request in self._queue if request not in batch]
        stock_batch(self._model.pipeline_for(leader, []), batch)
        self.last_batch = len(batch)
        return [request.sample_id for request in batch]

    def _mates(self, leader: SampleRequest) -> list[SampleRequest]:
        return [request for request in self._queue if _key(request) == _key(leader)]


class EngineServer:
    """The engine, with tasks admitted as far as it has room: P0 first, then by arrival."""

    def __init__(self, pool: ModelPool) -> None:
        self._engine = Engine(pool, EngineConfig(batch_limits={2048: LARGEST}))
        self._queue: list[SampleRequest] = []
        self.last_batch = 0

    def take(self, request: SampleRequest) -> None:
        """Queue a task."""
        self._queue.append(request)

    def idle_until(self, now: float) -> float | None:
        """Idle for ever while nothing is active or waiting."""
        return None if self._queue or not self._engine.idle else float("inf")

    def work(self, now: float) -> list[SampleId]:
        """Admit and take one step."""
        for request in sorted(self._queue, key=lambda one: (one.priority != 0, one.arrived)):
            if self._engine.room(request.model, request.width, request.height, request.priority) > 0:
                self._engine.admit(request)
                self._queue.remove(request)
        events = self._engine.step()
        assert not any(isinstance(event, Failed | Cancelled) for event in events)
        finished = [event.sample_id for event in events if isinstance(event, Finished)]
        self.last_batch = len(events) - len(finished)  # the others are Progress, one for each member of the pass
        return finished


def stock_batch(pipeline: Any, requests: Sequence[SampleRequest]) -> None:
    """One call of a stock pipeline for tasks that agree in everything but prompt and seed."""
    first = requests[0]
    pipeline(
        prompt=[request.parameters.text for request in requests],
        negative_prompt=[request.parameters.negative_text for request in requests],
        width=first.width,
        height=first.height,
        num_inference_steps=first.steps,
        guidance_scale=first.parameters.cfg_scale,
        generator=[torch.Generator("cpu").manual_seed(request.seed) for request in requests],
        output_type="pt",
    )


def _key(request: SampleRequest) -> tuple[int, str, float]:
    return (request.steps, request.parameters.sampler, request.parameters.cfg_scale)
