"""Simulates how many devices a load needs. Arrivals and devices are simulated; the queues are the real ones.

Tasks go through the Lua scripts of the product, in a separate Redis database, on a virtual clock; the engine's
scheduler chooses the batch of each step. Not simulated: expiry, failures, the stages after the GPU.

A step of a batch costs max(floor, fixed + per_sample * samples) ms at 512x512 pixels, in proportion to the pixels for
other sizes.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from redis import Redis

from generation.queue import client as queue_client
from generation.queue.buffer import Buffer, BufferConfig, Claimed
from generation.queue.lua import load_script
from imagegenx_site.ids import uuid7
from workers.engine.batching import scheduler
from workers.gpu.intake import FLOW_S, LEAST_URGENT, URGENT, URGENT_PATIENCE_S

REFERENCE_PIXELS = 512 * 512
HEADROOM = 0.9  # share of the capacity of full batches; above it a queue may grow unseen in a short simulation
CAPACITY = 64  # samples on a device, running or paused, as in EngineConfig
POLICY = scheduler.Policy()
CLOCK_KEY = "gq:clock"  # ms of the simulated time
IDLE_POLL_S = 0.05  # as LoopConfig
EPOCH_MS = 1_700_000_000_000


@dataclass(frozen=True)
class StepCost:
    """Milliseconds of one shared step at 512x512, and `after_ms` of text and image coding per picture."""

    fixed_ms: float
    per_sample_ms: float
    floor_ms: float = 0.0
    after_ms: float = 10.0

    def seconds(self, samples: int, pixels: int) -> float:
        scale = pixels / REFERENCE_PIXELS
        return max(self.floor_ms, self.fixed_ms + self.per_sample_ms * scale * samples) / 1000


@dataclass(frozen=True)
class TrafficKind:
    """A part of the traffic. `weight`: relative frequency; `side`: pixels."""

    weight: float
    priority: int
    side: int
    steps: int


@dataclass(frozen=True)
class Scenario:
    """`per_day` pictures, times `peak` during the simulated `seconds`, on `devices`."""

    per_day: float
    devices: int
    cost: StepCost
    mix: Sequence[TrafficKind]
    peak: float = 2.0
    seconds: float = 300.0
    batch: int = 8
    boarding_ms: float = 8.0  # from a claim until its rows are updated; the sample joins at the next step boundary
    seed: int = 1

    @property
    def rate(self) -> float:
        """Pictures per second during the simulation."""
        return self.per_day * self.peak / 86_400


@dataclass
class Sample:
    """One picture. Times in simulated seconds; `started`: beginning of its first step."""

    kind: TrafficKind
    arrived: float
    left: int
    passed_over: int = 0
    started: float = -1.0
    finished: float = -1.0

    @property
    def key(self) -> str:
        return f"sim@1:{self.kind.side}x{self.kind.side}"


def arrivals(scenario: Scenario) -> list[Sample]:
    """The requested pictures in order of arrival; deterministic for a scenario."""
    chance = random.Random(scenario.seed)
    weights = [kind.weight for kind in scenario.mix]
    now, upcoming = 0.0, []
    while (now := now + chance.expovariate(scenario.rate)) < scenario.seconds:
        (kind,) = chance.choices(scenario.mix, weights)
        upcoming.append(Sample(kind, now, kind.steps))
    return upcoming


@dataclass
class Device:
    """One GPU worker. `claimed` samples start running at the first step boundary after `admitted_at`."""

    buffer: Buffer
    batch: int
    running: dict[str, tuple[Claimed, Sample]] = field(default_factory=dict)
    claimed: list[tuple[Claimed, Sample]] = field(default_factory=list)
    admitted_at: float = 0.0
    claim_after: float = 0.0  # until then it waits for a fuller batch
    last_step_end: float = -math.inf
    warm: str = ""
    busy: float = 0.0
    steps: int = 0
    rows: int = 0

    def room(self, key: str, priority: int) -> int:
        """Samples of that key that may still be admitted."""
        same = [sample for _, sample in self.running.values() if sample.key == key]
        urgent = sum(sample.kind.priority == URGENT for sample in same)
        return scheduler.room(
            same_key=len(same), same_key_urgent=urgent, on_board=len(self.running), limit=self.batch,
            capacity=CAPACITY, priority=priority,
        )  # fmt: skip

    def members(self) -> list[str]:
        """The samples of the next step; the others are passed over."""
        parked = [
            scheduler.Parked(task_id, sample.key, 1, sample.kind.priority, sample.arrived, sample.passed_over)
            for task_id, (_, sample) in self.running.items()
        ]
        chosen = [one.sample_id for one in scheduler.choose(parked, lambda _: self.batch, POLICY)]
        for task_id, (_, sample) in self.running.items():
            sample.passed_over = 0 if task_id in chosen else sample.passed_over + 1
        return chosen


@dataclass(frozen=True)
class SimulationResult:
    """The result of a scenario. Waits and durations by class, in seconds: (median, 95th percentile)."""

    finished: int
    per_second: float
    utilisation: float
    mean_batch: float
    waits: dict[int, tuple[float, float]]
    durations: dict[int, tuple[float, float]]
    backlog: int


class Simulation:
    """One run of a scenario, with an empty Redis database."""

    def __init__(self, redis: Redis, scenario: Scenario, upcoming: Sequence[Sample] | None = None) -> None:
        """`upcoming`: in order of arrival; None: the arrivals of the scenario."""
        if redis.dbsize():
            raise ValueError("the Redis database of the simulation must be empty")
        self.redis, self.scenario = redis, scenario
        self.enqueue = load_script(redis, queue_client.LUA / "enqueue.lua", clock_key=CLOCK_KEY)
        self.devices = [self._device(number) for number in range(scenario.devices)]
        self.samples: dict[str, Sample] = {}
        self.upcoming = deque(arrivals(scenario) if upcoming is None else upcoming)
        self.waiting = 0

    def _device(self, number: int) -> Device:
        config = BufferConfig(worker=f"sim-{number}", own_queue="dq.sim", clock_key=CLOCK_KEY)
        return Device(Buffer(self.redis, config), self.scenario.batch)

    def run(self) -> SimulationResult:
        """Advance from step boundary to step boundary until the simulated time is over."""
        agenda = [(0.0, number) for number in range(len(self.devices))]
        while agenda:
            now, number = heapq.heappop(agenda)
            if now >= self.scenario.seconds:
                continue
            self._arrive(now)
            device = self.devices[number]
            self._admit(device, now)
            urgent = self._claim(device, now)
            if urgent and device.claimed and self.scenario.boarding_ms <= URGENT_PATIENCE_S * 1000:
                heapq.heappush(agenda, (device.admitted_at, number))
            elif device.running:
                heapq.heappush(agenda, (now + self._step(device, now), number))
            elif (next_claim := self._next_claim(device, now)) is not None:
                heapq.heappush(agenda, (next_claim, number))
        return self._result()

    def _next_claim(self, device: Device, now: float) -> float | None:
        """When an empty device claims again; None: no more arrivals."""
        if device.claimed:
            return device.admitted_at
        device.warm = ""
        times = [self.upcoming[0].arrived] if self.upcoming else []
        if self.waiting:
            times.append(device.claim_after if device.claim_after > now else now + IDLE_POLL_S)
        return max(now + 0.001, min(times)) if times else None

    def _arrive(self, now: float) -> None:
        if self.waiting or (self.upcoming and self.upcoming[0].arrived <= now):
            self.redis.set(CLOCK_KEY, int(EPOCH_MS + now * 1000))
        while self.upcoming and self.upcoming[0].arrived <= now:
            sample = self.upcoming.popleft()
            created = int(EPOCH_MS + sample.arrived * 1000)
            task_id = str(uuid7(created))
            weight = sample.kind.side**2 * sample.kind.steps
            user = len(self.samples) % 97
            args = [task_id, sample.kind.priority, sample.key, user, weight, created, 0, "sim@1", 1]
            self.enqueue(args=[str(arg) for arg in args])
            self.samples[task_id] = sample
            self.waiting += 1

    def _admit(self, device: Device, now: float) -> None:
        if device.claimed and device.admitted_at <= now:
            device.running |= {claimed.task_id: (claimed, sample) for claimed, sample in device.claimed}
            device.claimed = []

    def _claim(self, device: Device, now: float) -> bool:
        """As gpu/intake.py: on an empty device any key, then more samples of it; P0 first. Returns whether the batch
        must wait for a claimed P0 task.
        """
        if not self.waiting or device.claimed or now < device.claim_after:
            return False
        urgent = bool(device.warm) and device.buffer.tick([]).p0_waits
        only = URGENT if urgent else None
        keys = {sample.key for _, sample in device.running.values()}
        closed = [key for key in keys if device.room(key, URGENT if urgent else LEAST_URGENT) <= 0]
        if device.warm in closed and not urgent:
            return False
        flows = now < device.last_step_end + FLOW_S
        claim = device.buffer.claim(
            1, warm_key=device.warm, only_class=only, closed=closed, join=bool(device.running), wait_for_mates=flows
        )
        device.claim_after = now + claim.wait
        taken = claim.tasks
        more = device.room(taken[0].batch_key, taken[0].priority) - 1 if taken else 0
        if more > 0:
            key = taken[0].batch_key
            taken += device.buffer.claim(more, only_key=key, only_class=only, wait_for_mates=False).tasks
        device.claimed = [(claimed, self.samples[claimed.task_id]) for claimed in taken]
        device.admitted_at = now + self.scenario.boarding_ms / 1000
        self.waiting -= len(taken)
        return urgent

    def _step(self, device: Device, now: float) -> float:
        """One shared step; its duration in seconds."""
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
                device.buffer.settle(claimed, "ended")
                del device.running[task_id]
        device.last_step_end, device.warm = now + took, leader.key
        device.busy += took
        device.steps += 1
        device.rows += len(members)
        return took

    def _result(self) -> SimulationResult:
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
    """The scenario with the fewest devices at which the 95th percentile of no class waits over `longest_p95` s."""
    devices = scenario.devices
    while True:
        redis.flushdb()
        tried = Scenario(**{**scenario.__dict__, "devices": devices})
        outcome = Simulation(redis, tried).run()
        short = all(wait[1] <= longest_p95 for wait in outcome.waits.values())
        if short and outcome.backlog < scenario.rate * longest_p95:
            return tried, outcome
        devices = max(devices + 1, round(devices * 1.15))


def lower_bound_of_devices(scenario: Scenario) -> int:
    """Devices whose full batches suffice for the load with some headroom: start of the search."""
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
