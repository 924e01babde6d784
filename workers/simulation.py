"""How many devices a load needs: arrivals and devices are simulated, the order of the queues is the real one.

Tasks go through the same Lua scripts as in the product, in a Redis database of their own, on a virtual clock. Left
out: affinity to the warm key and expiry, which look at the server's clock; the stages after the GPU.

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

from generation import tickets
from generation.lua import load_script
from generation.uuid7 import uuid7
from workers.buffer import Buffer, BufferConfig, Claimed

REFERENCE_PIXELS = 512 * 512
HEADROOM = 0.9  # of what full batches can do; beyond it a short stretch hides a queue that grows in a long one
URGENT_CAP = 2  # samples of a batch while a P0 is on board, as in the engine's policy


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
    seed: int = 1

    @property
    def rate(self) -> float:
        """Pictures per second in the simulated stretch."""
        return self.per_day * self.peak / 86_400


@dataclass
class Sample:
    """One picture on its way. Times in simulated seconds."""

    kind: Kind
    arrived: float
    left: int
    started: float = -1.0
    finished: float = -1.0

    @property
    def key(self) -> str:
        return f"sim@1:{self.kind.side}x{self.kind.side}"


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
    """One GPU worker."""

    buffer: Buffer
    board: dict[str, tuple[Claimed, Sample]] = field(default_factory=dict)
    busy: float = 0.0
    steps: int = 0
    rows: int = 0


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

    def __init__(self, redis: Redis, scenario: Scenario) -> None:
        if redis.dbsize():
            raise ValueError("the Redis database of the simulation must be empty")
        self.redis, self.scenario = redis, scenario
        self.enqueue = load_script(redis, tickets.LUA / "enqueue.lua")
        self.devices = [self._device(number) for number in range(scenario.devices)]
        self.samples: dict[str, Sample] = {}
        self.coming = deque(arrivals(scenario))
        self.waiting = 0

    def _device(self, number: int) -> Device:
        config = BufferConfig(worker=f"sim-{number}", own_queue="dq.sim", affinity_ms=0, window_ms=0)
        return Device(Buffer(self.redis, config))

    def run(self) -> Outcome:
        """Step boundary by step boundary until the stretch is over."""
        agenda = [(0.0, number) for number in range(len(self.devices))]
        while agenda:
            now, number = heapq.heappop(agenda)
            if now >= self.scenario.seconds:
                continue
            self._arrive(now)
            device = self.devices[number]
            self._claim(device, now)
            if device.board:
                heapq.heappush(agenda, (now + self._step(device, now), number))
            elif self.coming:
                heapq.heappush(agenda, (max(now + 0.001, self.coming[0].arrived), number))
        return self._outcome()

    def _arrive(self, now: float) -> None:
        while self.coming and self.coming[0].arrived <= now:
            sample = self.coming.popleft()
            task_id = str(uuid7(1_700_000_000_000 + int(sample.arrived * 1000)))
            weight = sample.kind.side**2 * sample.kind.steps
            args = [task_id, sample.kind.priority, sample.key, len(self.samples) % 97, weight, 0, 0, "sim@1", 1]
            self.enqueue(args=[str(arg) for arg in args])
            self.samples[task_id] = sample
            self.waiting += 1

    def _claim(self, device: Device, now: float) -> None:
        """As workers/intake.py: any key on an empty board, then more of it; P0 whenever it is its turn."""
        if not self.waiting:
            return
        warm = next((sample.key for _, sample in device.board.values()), "")
        urgent = bool(warm) and device.buffer.tick([]).p0_waits
        room = self.scenario.batch - (0 if urgent else len(device.board))
        if room <= 0:
            return
        only = 0 if urgent else None
        first = device.buffer.claim(1, warm_key=warm, join=bool(warm), only_class=only).tasks
        more = room - len(first)
        if first and more:
            first += device.buffer.claim(more, only_key=first[0].batch_key, only_class=only).tasks
        for claimed in first:
            sample = self.samples[claimed.task_id]
            sample.started = now
            device.board[claimed.task_id] = (claimed, sample)
        self.waiting -= len(first)

    def _step(self, device: Device, now: float) -> float:
        """One shared step; seconds it takes."""
        board = list(device.board.values())
        urgent = [entry for entry in board if entry[1].kind.priority == 0]
        leader = (urgent or board)[0][1]
        batch = [entry for entry in urgent + [e for e in board if e not in urgent] if entry[1].key == leader.key]
        batch = batch[: max(URGENT_CAP, len(urgent)) if urgent else self.scenario.batch]
        took = self.scenario.cost.seconds(len(batch), leader.kind.side**2)
        for claimed, sample in batch:
            sample.left -= 1
            if sample.left == 0:
                took += self.scenario.cost.after_ms / 1000
                sample.finished = now + took
                device.buffer.settle(claimed, "ended")
                del device.board[claimed.task_id]
        device.busy += took
        device.steps += 1
        device.rows += len(batch)
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
