"""How many devices a load needs: arrivals and devices are simulated, the order of the queues is the real one.

Tasks go through the same Lua scripts as in the product, in a Redis database of their own, on a virtual clock; who
shares a step is decided by the engine's policy. Left out: expiry, failures, the stages after the GPU.

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

from generation.queue.buffer import Buffer, BufferConfig, Claimed
from generation.queue.client import Entry
from generation.queue.lua import load_script
from generation.queue.values import BatchKey, Release
from imagegenx_site.ids import uuid7
from workers.engine.batching import scheduler
from workers.engine.batching.config import EngineConfig
from workers.engine.requests import SampleId
from workers.gpu.intake import FLOW_S, LEAST_URGENT, URGENT, URGENT_PATIENCE_S
from workers.gpu.loop import LoopConfig

REFERENCE_PIXELS = 512 * 512
HEADROOM = 0.9  # of what full batches can do; beyond it a short stretch hides a queue that grows in a long one
CAPACITY = EngineConfig.capacity  # samples on board of a device, running or paused
POLICY = scheduler.Policy()
CLOCK_KEY = "gq:clock"  # ms of the simulated time
IDLE_POLL_S = LoopConfig.idle_poll
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
class Kind:
    """A part of the mix: its weight, class, size and steps."""

    weight: float
    priority: int
    side: int
    steps: int


@dataclass(frozen=True)
class Scenario:
    """`per_day` pictures, multiplied by `peak` for the simulated stretch of `seconds`, on `devices`."""

    per_day: float
    devices: int
    cost: StepCost
    mix: Sequence[Kind]
    peak: float = 2.0
    seconds: float = 300.0
    batch: int = 8
    boarding_ms: float = 8.0  # from a claim until its rows are won; it joins at the next step boundary after that
    seed: int = 1

    @property
    def rate(self) -> float:
        """Pictures per second in the simulated stretch."""
        return self.per_day * self.peak / 86_400


@dataclass
class Sample:
    """One picture on its way. Times in simulated seconds; `started` is where its first step begins."""

    kind: Kind
    arrived: float
    left: int
    passed_over: int = 0
    started: float = -1.0
    finished: float = -1.0

    @property
    def key(self) -> BatchKey:
        return BatchKey("sim@1", self.kind.side, self.kind.side)


def arrivals(scenario: Scenario) -> list[Sample]:
    """When which pictures are asked for; the same for the same scenario."""
    chance = random.Random(scenario.seed)
    weights = [kind.weight for kind in scenario.mix]
    now, coming = 0.0, []
    while (now := now + chance.expovariate(scenario.rate)) < scenario.seconds:
        (kind,) = chance.choices(scenario.mix, weights)
        coming.append(Sample(kind, now, kind.steps))
    return coming


@dataclass
class Device:
    """One GPU worker. `boarding` is claimed and comes on board at the first step boundary after `boards_at`."""

    buffer: Buffer
    batch: int
    board: dict[str, tuple[Claimed, Sample]] = field(default_factory=dict)
    boarding: list[tuple[Claimed, Sample]] = field(default_factory=list)
    boards_at: float = 0.0
    not_before: float = 0.0  # it waits for mates until then
    worked: float = -math.inf  # end of the last step
    warm: BatchKey | None = None
    busy: float = 0.0
    steps: int = 0
    rows: int = 0

    def room(self, key: BatchKey, priority: int) -> int:
        """Samples of that key that may still come."""
        same = [sample for _, sample in self.board.values() if sample.key == key]
        urgent = sum(sample.kind.priority == URGENT for sample in same)
        return scheduler.room(
            same_key=len(same), same_key_urgent=urgent, admitted=len(self.board), limit=self.batch,
            capacity=CAPACITY, priority=priority,
        )  # fmt: skip

    def members(self) -> list[str]:
        """Who shares the next step; the others are passed over."""
        parked = [
            scheduler.Candidate(
                SampleId(task_id, 0), sample.key, 1, sample.kind.priority, sample.arrived, sample.passed_over
            )
            for task_id, (_, sample) in self.board.items()
        ]
        chosen = [one.sample_id.task_id for one in scheduler.choose(parked, lambda _: self.batch, POLICY)]
        for task_id, (_, sample) in self.board.items():
            sample.passed_over = 0 if task_id in chosen else sample.passed_over + 1
        return chosen


@dataclass(frozen=True)
class Outcome:
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
        config = BufferConfig(worker=f"sim-{number}", own_queue="dq.sim", clock_key=CLOCK_KEY)
        return Device(Buffer(self.redis, config), self.scenario.batch)

    def run(self) -> Outcome:
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
            if urgent and device.boarding and self.scenario.boarding_ms <= URGENT_PATIENCE_S * 1000:
                heapq.heappush(agenda, (device.boards_at, number))
            elif device.board:
                heapq.heappush(agenda, (now + self._step(device, now), number))
            elif (later := self._next(device, now)) is not None:
                heapq.heappush(agenda, (later, number))
        return self._outcome()

    def _next(self, device: Device, now: float) -> float | None:
        """When an empty device looks again; None: nothing will come."""
        if device.boarding:
            return device.boards_at
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
        if device.boarding and device.boards_at <= now:
            device.board |= {claimed.task_id: (claimed, sample) for claimed, sample in device.boarding}
            device.boarding = []

    def _claim(self, device: Device, now: float) -> bool:
        """As gpu/intake.py: any key on an empty board, then more of it; P0 whenever it is its turn, and then the
        batch waits for it: True.
        """
        if not self.waiting or device.boarding or now < device.not_before:
            return False
        urgent = bool(device.warm) and device.buffer.tick([]).p0_waits
        only = URGENT if urgent else None
        keys = {sample.key for _, sample in device.board.values()}
        closed = [key for key in keys if device.room(key, URGENT if urgent else LEAST_URGENT) <= 0]
        if device.warm in closed and not urgent:
            return False
        flows = now < device.worked + FLOW_S
        claim = device.buffer.claim(
            1, warm_key=device.warm, only_class=only, closed=closed, join=bool(device.board), wait_for_mates=flows
        )
        device.not_before = now + claim.wait
        taken = claim.tasks
        more = device.room(taken[0].batch_key, taken[0].priority) - 1 if taken else 0
        if more > 0:
            key = taken[0].batch_key
            taken += device.buffer.claim(more, only_key=key, only_class=only, wait_for_mates=False).tasks
        device.boarding = [(claimed, self.samples[claimed.task_id]) for claimed in taken]
        device.boards_at = now + self.scenario.boarding_ms / 1000
        self.waiting -= len(taken)
        return urgent

    def _step(self, device: Device, now: float) -> float:
        """One shared step; seconds it takes."""
        members = device.members()
        leader = device.board[members[0]][1]
        took = self.scenario.cost.seconds(len(members), leader.kind.side**2)
        for task_id in members:
            claimed, sample = device.board[task_id]
            sample.started = now if sample.started < 0 else sample.started
            sample.left -= 1
            if sample.left == 0:
                took += self.scenario.cost.after_ms / 1000
                sample.finished = now + took
                device.buffer.settle(claimed, Release.ENDED)
                del device.board[task_id]
        device.worked, device.warm = now + took, leader.key
        device.busy += took
        device.steps += 1
        device.rows += len(members)
        return took

    def _outcome(self) -> Outcome:
        done = [sample for sample in self.samples.values() if 0 <= sample.finished <= self.scenario.seconds]
        started = [sample for sample in self.samples.values() if sample.started >= 0]
        by_class = range(4)
        steps = sum(device.steps for device in self.devices)
        return Outcome(
            finished=len(done),
            per_second=len(done) / self.scenario.seconds,
            utilisation=sum(device.busy for device in self.devices) / self.scenario.seconds / len(self.devices),
            mean_batch=sum(device.rows for device in self.devices) / max(1, steps),
            waits={c: _typical([s.started - s.arrived for s in started if s.kind.priority == c]) for c in by_class},
            durations={c: _typical([s.finished - s.arrived for s in done if s.kind.priority == c]) for c in by_class},
            backlog=self.waiting,
        )


def devices_needed(redis: Redis, scenario: Scenario, longest_p95: float) -> tuple[Scenario, Outcome]:
    """The scenario with the fewest devices at which no class's 95th percentile waits over `longest_p95` s."""
    devices = scenario.devices
    while True:
        redis.flushdb()
        tried = Scenario(**{**scenario.__dict__, "devices": devices})
        outcome = Simulation(redis, tried).run()
        short = all(wait[1] <= longest_p95 for wait in outcome.waits.values())
        if short and outcome.backlog < scenario.rate * longest_p95:
            return tried, outcome
        devices = max(devices + 1, round(devices * 1.15))


def fewest_conceivable(scenario: Scenario) -> int:
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
