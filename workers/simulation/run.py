"""One run of a scenario over the real scripts of the queue, and the search for the fewest devices."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from redis import Redis

from generation.queue.client import Entry
from generation.queue.lua import load_script
from generation.queue.values import Release
from generation.queue.worker import WorkerQueue, WorkerQueueConfig
from imagegenx_site.ids import uuid7
from workers.gpu.intake import FLOW_S, LEAST_URGENT, URGENT, URGENT_PATIENCE_S
from workers.gpu.loop import LoopConfig
from workers.simulation.device import Device
from workers.simulation.scenario import Sample, Scenario, arrivals

HEADROOM = 0.9  # of what full batches can do; beyond it a short stretch hides a queue that grows in a long one
CLOCK_KEY = "gq:clock"  # ms of the simulated time
IDLE_POLL_S = LoopConfig.idle_poll
EPOCH_MS = 1_700_000_000_000


@dataclass(frozen=True)
class SimulationResult:
    """What a scenario came to. Waits and durations in seconds, by class: (median, 95th percentile)."""

    finished: int
    per_second: float
    utilisation: float
    mean_batch: float
    waits: dict[int, tuple[float, float]]
    durations: dict[int, tuple[float, float]]
    backlog: int


class Simulation:
    """One run of one scenario over an empty Redis database."""

    def __init__(self, redis: Redis, scenario: Scenario, coming: Sequence[Sample] | None = None) -> None:
        """`coming` in order of arrival; None: what the scenario says."""
        if redis.dbsize():
            raise ValueError("the Redis database of the simulation must be empty")
        self.redis, self.scenario = redis, scenario
        self.enqueue = load_script(redis, "enqueue", clock_key=CLOCK_KEY)
        self.devices = [self._device(number) for number in range(scenario.devices)]
        self.samples: dict[str, Sample] = {}
        self.coming = deque(arrivals(scenario) if coming is None else coming)
        self.waiting = 0

    def _device(self, number: int) -> Device:
        config = WorkerQueueConfig(worker=f"sim-{number}", own_queue="dq.sim", clock_key=CLOCK_KEY)
        return Device(WorkerQueue(self.redis, config), self.scenario.batch)

    def run(self) -> SimulationResult:
        """Step boundary by step boundary until the stretch is over."""
        agenda = [(0.0, number) for number in range(len(self.devices))]
        while agenda:
            now, number = heapq.heappop(agenda)
            if now >= self.scenario.seconds:
                continue
            self._arrive(now)
            device = self.devices[number]
            self._admit(device, now)
            urgent = self._claim(device, now)
            if urgent and device.claimed and self.scenario.admission_ms <= URGENT_PATIENCE_S * 1000:
                heapq.heappush(agenda, (device.admitted_at, number))
            elif device.running:
                heapq.heappush(agenda, (now + self._step(device, now), number))
            elif (later := self._next(device, now)) is not None:
                heapq.heappush(agenda, (later, number))
        return self._figures()

    def _next(self, device: Device, now: float) -> float | None:
        """When an idle device looks again; None: nothing will come."""
        if device.claimed:
            return device.admitted_at
        device.warm = None
        times = [self.coming[0].arrived] if self.coming else []
        if self.waiting:
            times.append(device.not_before if device.not_before > now else now + IDLE_POLL_S)
        return max(now + 0.001, min(times)) if times else None

    def _arrive(self, now: float) -> None:
        if self.waiting or (self.coming and self.coming[0].arrived <= now):
            self.redis.set(CLOCK_KEY, int(EPOCH_MS + now * 1000))
        while self.coming and self.coming[0].arrived <= now:
            sample = self.coming.popleft()
            created = int(EPOCH_MS + sample.arrived * 1000)
            task_id = uuid7(created)
            weight = sample.kind.side**2 * sample.kind.steps
            user = len(self.samples) % 97
            entry = Entry(task_id, sample.kind.priority, str(sample.key), user, weight, created, 0, sample.key.model)
            self.enqueue(args=[entry.to_json()])
            self.samples[str(task_id)] = sample
            self.waiting += 1

    def _admit(self, device: Device, now: float) -> None:
        if device.claimed and device.admitted_at <= now:
            device.running |= {claimed.task_id: (claimed, sample) for claimed, sample in device.claimed}
            device.claimed = []

    def _claim(self, device: Device, now: float) -> bool:
        """As gpu/intake.py: any key on an idle device, then more of it; P0 whenever it is its turn, and then the
        batch waits for it: True.
        """
        if not self.waiting or device.claimed or now < device.not_before:
            return False
        urgent = bool(device.warm) and device.queue.tick([]).p0_waits
        only = URGENT if urgent else None
        keys = {sample.key for _, sample in device.running.values()}
        closed = [key for key in keys if device.room(key, URGENT if urgent else LEAST_URGENT) <= 0]
        if device.warm in closed and not urgent:
            return False
        flows = now < device.worked + FLOW_S
        claim = device.queue.claim(
            1, warm_key=device.warm, only_class=only, closed=closed, join=bool(device.running), wait_for_batch=flows
        )
        device.not_before = now + claim.wait
        taken = claim.tasks
        more = device.room(taken[0].batch_key, taken[0].priority) - 1 if taken else 0
        if more > 0:
            key = taken[0].batch_key
            taken += device.queue.claim(more, only_key=key, only_class=only, wait_for_batch=False).tasks
        device.claimed = [(claimed, self.samples[claimed.task_id]) for claimed in taken]
        device.admitted_at = now + self.scenario.admission_ms / 1000
        self.waiting -= len(taken)
        return urgent

    def _step(self, device: Device, now: float) -> float:
        """One shared step; seconds it takes."""
        members = device.members()
        leader = device.running[members[0]][1]
        took = self.scenario.cost.seconds(len(members), leader.kind.side**2)
        for task_id in members:
            claimed, sample = device.running[task_id]
            sample.started = now if sample.started < 0 else sample.started
            sample.left -= 1
            if sample.left == 0:
                took += self.scenario.cost.after_ms / 1000
                sample.finished = now + took
                device.queue.settle(claimed, Release.ENDED)
                del device.running[task_id]
        device.worked, device.warm = now + took, leader.key
        device.busy += took
        device.steps += 1
        device.rows += len(members)
        return took

    def _figures(self) -> SimulationResult:
        done = [sample for sample in self.samples.values() if 0 <= sample.finished <= self.scenario.seconds]
        started = [sample for sample in self.samples.values() if sample.started >= 0]
        by_class = range(4)
        steps = sum(device.steps for device in self.devices)
        return SimulationResult(
            finished=len(done),
            per_second=len(done) / self.scenario.seconds,
            utilisation=sum(device.busy for device in self.devices) / self.scenario.seconds / len(self.devices),
            mean_batch=sum(device.rows for device in self.devices) / max(1, steps),
            waits={c: _typical([s.started - s.arrived for s in started if s.kind.priority == c]) for c in by_class},
            durations={c: _typical([s.finished - s.arrived for s in done if s.kind.priority == c]) for c in by_class},
            backlog=self.waiting,
        )


def devices_needed(redis: Redis, scenario: Scenario, longest_p95: float) -> tuple[Scenario, SimulationResult]:
    """The scenario with the fewest devices at which no class's 95th percentile waits over `longest_p95` s."""
    devices = scenario.devices
    while True:
        redis.flushdb()
        tried = Scenario(**{**scenario.__dict__, "devices": devices})
        figures = Simulation(redis, tried).run()
        short = all(wait[1] <= longest_p95 for wait in figures.waits.values())
        if short and figures.backlog < scenario.rate * longest_p95:
            return tried, figures
        devices = max(devices + 1, round(devices * 1.15))


def lower_bound_of_devices(scenario: Scenario) -> int:
    """Devices whose full batches would do the work with some headroom: where the search begins."""
    weights = sum(kind.weight for kind in scenario.mix)
    seconds = 0.0
    for kind in scenario.mix:
        batch = scenario.cost.seconds(scenario.batch, kind.side**2) / scenario.batch
        seconds += kind.weight / weights * (kind.steps * batch + scenario.cost.after_ms / 1000)
    return max(1, math.ceil(scenario.rate * seconds / HEADROOM))


def _typical(values: list[float]) -> tuple[float, float]:
    """(median, 95th percentile); zeros for none."""
    if not values:
        return 0.0, 0.0
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
