"""A GPU worker whose engine sleeps as long as load.py says a step takes, and chooses its members by the
real engine's policy. A task of one step is free: what the queues alone can do.

    celery -A imagegenx_site worker -I deploy.bench.queue.paced_worker ...

Each step is written to VAR_DIR/steps-PID.jsonl: when it began, how long it slept, whose first it was, and whether
a sample stayed in the engine.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from deploy.bench.queue.load import BATCH, COST
from fixtures.empty_pool import EmptyPool
from generation.queue.values import BatchKey
from imagegenx_site.celery import app
from workers.engine.batching import scheduler
from workers.engine.requests import Cancelled, Event, Finished, Progress, SampleId, SampleRequest
from workers.gpu.worker import install
from workers.simulation.device import CAPACITY, POLICY


class PacedEngine:
    """The interface of workers.engine.Engine."""

    def __init__(self) -> None:
        self.warm_key: BatchKey | None = None
        self.wake: Callable[[], None] = lambda: None
        self._samples: dict[SampleId, SampleRequest] = {}
        self._done: Counter[SampleId] = Counter()
        self._passed_over: Counter[SampleId] = Counter()
        self._cancelled: set[SampleId] = set()
        path = Path(os.environ["VAR_DIR"], f"steps-{os.getpid()}.jsonl")
        self._log = path.open("a", buffering=1)

    @property
    def idle(self) -> bool:
        return not self._samples

    paused_memory_full = False  # nothing is held in memory

    def tasks_to_evict(self) -> list[str]:
        return []

    def room(self, model: str, width: int, height: int, priority: int) -> int:
        same = [one.priority for one in self._samples.values() if one.batch_key == BatchKey(model, width, height)]
        return scheduler.room(
            same_key=len(same), same_key_urgent=same.count(scheduler.URGENT), admitted=len(self._samples), limit=BATCH,
            capacity=CAPACITY, priority=priority,
        )  # fmt: skip

    def admit(self, request: SampleRequest) -> None:
        self._samples[request.sample_id] = request

    def cancel(self, sample_id: SampleId) -> None:
        self._cancelled.add(sample_id)

    def discard_all(self) -> None:
        self._samples.clear()

    def step(self) -> list[Event]:
        events: list[Event] = [Cancelled(id_) for id_ in self._cancelled if self._samples.pop(id_, None)]
        self._cancelled.clear()
        members = self._members()
        if not members:
            self.warm_key = None
            return events
        begun = time.time()
        self.warm_key = members[0].batch_key
        slept = COST.seconds(len(members), members[0].width * members[0].height)
        slept = 0.0 if members[0].steps == 1 else slept
        time.sleep(slept)
        new = [one.task_id for one in members if not self._done[one.sample_id]]
        for request in members:
            events += self._advance(request)
        self._log.write(json.dumps({"at": begun, "slept": slept, "new": new, "more": bool(self._samples)}) + "\n")
        return events

    def _members(self) -> list[SampleRequest]:
        parked = [
            scheduler.Candidate(id_, one.batch_key, 1, one.priority, one.arrived, self._passed_over[id_])
            for id_, one in self._samples.items()
        ]
        chosen = [one.sample_id for one in scheduler.choose(parked, lambda _: BATCH, POLICY)]
        for id_ in self._samples:
            self._passed_over[id_] = 0 if id_ in chosen else self._passed_over[id_] + 1
        return [self._samples[id_] for id_ in chosen]

    def _advance(self, request: SampleRequest) -> list[Event]:
        self._done[request.sample_id] += 1
        step = self._done[request.sample_id]
        progress = Progress(request.sample_id, step, request.steps)
        if step < request.steps:
            return [progress]
        del self._samples[request.sample_id], self._done[request.sample_id], self._passed_over[request.sample_id]
        return [progress, Finished(request.sample_id, np.zeros((request.height, request.width, 3), np.float32))]


install(app, lambda: (EmptyPool(), PacedEngine()))
