"""The queues under live loads: two GPU workers whose engine sleeps (paced_worker.py), real Postgres and Redis.

    idle     one task at a time: from its submission to its claim and to its first step
    loads    calm, busy, full (load.py): pictures/s, waits and shares by class; beside what the simulator says of the
             same arrivals, and what each task's client was promised at its submission

The simulator takes from the same run what a turn of the loop takes besides the load's step cost, and how long a claimed
task takes until its first step on an idle worker.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

from django.conf import settings
from django.core.management import call_command
from django.db import connection
from redis import Redis

from deploy.bench.queue import load
from deploy.bench.queue.load import Stay
from fixtures.fleet import Fleet, submit, wait_until
from generation.accounts.models import User
from generation.tasks import estimates, partitions
from generation.tasks.models import Task
from workers.simulation.run import Simulation
from workers.simulation.scenario import Sample

PATIENCE_S = 300
SIMULATED = 13  # Redis database
TOLERANCE = {
    "per_second": 0.1,
    "waits": 0.25,
}  # of pictures/s; of a class's median wait, or one full step if that is more
SLOWEST = 0.01  # pictures/s; the least that is told apart from none


@dataclass
class Steps:
    """What the engines wrote down: when each task's first step began, and what a turn took beside its sleep (s)."""

    first: dict[str, float] = field(default_factory=dict)
    overheads: list[float] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> "Steps":
        found = cls()
        for path in folder.glob("steps-*.jsonl"):
            before: dict[str, Any] = {}
            for line in path.read_text().splitlines():
                step = json.loads(line)
                found.first |= dict.fromkeys(step["new"], step["at"])
                if before.get("more"):
                    found.overheads.append(step["at"] - before["at"] - before["slept"])
                before = step
        return found

    @property
    def overhead(self) -> float:
        return statistics.mean(self.overheads) if self.overheads else 0.0


class Ours:
    """The product's queues and workers, without web process and without the stages after the GPU."""

    name = "ImageGenX"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.user = User.objects.get_or_create(username="owner")[0]
        self.promised: dict[UUID, estimates.Outlook] = {}
        self.redis = Redis.from_url(settings.REDIS_URL)
        self._pending: dict[UUID, tuple[int, float]] = {}

    def submit(self, priority: int, steps: int = load.STEPS) -> UUID:
        at = time.time()
        text = f"picture {len(self.promised)}"
        (task_id,) = submit(self.user, text, steps=steps, priority=priority, queue_seconds=900, side=load.SIDE)
        self._pending[task_id] = priority, at
        return task_id

    def ask(self, task_id: UUID) -> None:
        """Remember what the client is promised."""
        self.promised[task_id] = estimates.outlook(Task.objects.get(pk=task_id))

    def stays(self) -> list[Stay]:
        """Waits for the end of all that was submitted since the last call."""
        pending, self._pending = self._pending, {}
        rows = Task.objects.filter(pk__in=pending)
        wait_until(lambda: not rows.filter(generated_at=None).exists(), PATIENCE_S)
        first = Steps.read(self.folder).first
        ended = {task.pk: task.generated_at for task in rows}
        return [
            Stay(priority, at, first[str(task_id)], ended[task_id].timestamp())  # type: ignore[union-attr]
            for task_id, (priority, at) in pending.items()
        ]


@contextmanager
def our_workers() -> Iterator[Ours]:
    """Migrated database, empty Redis, two paced workers and a reconciler."""
    call_command("migrate", verbosity=0)
    call_command("seed", verbosity=0)
    partitions.ensure(datetime.now(UTC).date(), 2)
    Redis.from_url(settings.REDIS_URL).flushdb()
    with tempfile.TemporaryDirectory(prefix="imagegenx-live-") as name:
        folder = Path(name)
        env = {"DATABASE_URL": database_url(), "REDIS_URL": settings.REDIS_URL, "RAW_ROOT": str(folder / "raw")}
        env["RESULT_CACHE_HOURS"] = "0"
        fleet = Fleet(folder, env, include="deploy.bench.queue.paced_worker")
        try:
            fleet.start(*(f"gpu{number + 1}" for number in range(load.DEVICES)), "reconciler")
            yield Ours(folder)
        finally:
            fleet.stop(*fleet.processes)


def database_url() -> str:
    """Of the database of this process."""
    parts = connection.settings_dict
    name, password = quote(parts["USER"]), quote(parts["PASSWORD"] or "")
    return f"postgres://{name}:{password}@{parts['HOST']}:{parts['PORT']}/{parts['NAME']}"


def redis_url(database: int) -> str:
    """Another database of the same Redis."""
    return f"{settings.REDIS_URL.rpartition('/')[0]}/{database}"


def play(system: Any, samples: Sequence[Sample]) -> list[Stay]:
    """Submits at the samples' moments and waits for the end."""
    begun = time.monotonic()
    for sample in samples:
        time.sleep(max(0.0, begun + sample.arrived - time.monotonic()))
        task_id = system.submit(sample.kind.priority, sample.kind.steps)
        if sample.arrived and isinstance(system, Ours):
            system.ask(task_id)
    stays: list[Stay] = system.stays()
    return stays


def measure(seconds: float, part: float = 1.0) -> dict[str, Any]:
    """Everything that the docstring names; `part` of the full load's tasks."""
    runs: list[dict[str, Any]] = []
    with our_workers() as ours:
        for name in load.LOADS:
            stays = play(ours, load.samples_of(name, seconds, part))
            runs.append({"load": name, "measured": load.summary(name, stays, seconds)})
            if name in load.RATES:
                runs[-1]["told"] = errors(ours.promised)
            print(row(name, runs[-1]["measured"]), flush=True)
        overhead = Steps.read(ours.folder).overhead
        found: dict[str, Any] = {"idle": idle(ours, round(100 * part))}
    for run in runs:
        simulated = simulate(run["load"], seconds, part, overhead, found["idle"]["claim_to_first_step_ms"][0])
        run |= {"simulated": simulated, "off": apart(run["measured"], simulated)}
    return found | {"turn_overhead_ms": round(overhead * 1e3, 2), "seconds": seconds, "loads": runs}


def idle(ours: Ours, count: int) -> dict[str, Any]:
    """ms [median, p99] of tasks that come to idle workers, one after the other."""
    claims, starts, first = [], [], []
    for _ in range(count):
        task_id = ours.submit(2, steps=1)
        (stay,) = ours.stays()
        row = Task.objects.get(pk=task_id)
        claimed = row.started_at.timestamp()  # type: ignore[union-attr]
        claims.append((claimed - stay.submitted) * 1e3)
        starts.append((stay.started - claimed) * 1e3)
        first.append((stay.started - stay.submitted) * 1e3)
    return {
        "tasks": count,
        "submit_to_claim_ms": [load.part(claims, 0.5), load.part(claims, 0.99)],
        "claim_to_first_step_ms": [load.part(starts, 0.5), load.part(starts, 0.99)],
        "submit_to_first_step_ms": [load.part(first, 0.5), load.part(first, 0.99)],
    }


def simulate(name: str, seconds: float, part: float, overhead: float, admission_ms: float) -> dict[str, Any]:
    """The summary of the same arrivals on the virtual clock."""
    redis = Redis.from_url(redis_url(SIMULATED), decode_responses=True)
    redis.flushdb()
    cost = replace(load.COST, fixed_ms=load.COST.fixed_ms + overhead * 1e3)
    scenario = replace(load.scenario_of(name, 100 * seconds), cost=cost, admission_ms=admission_ms)
    simulation = Simulation(redis, scenario, load.samples_of(name, seconds, part))
    simulation.run()
    redis.flushdb()
    stays = [Stay(one.kind.priority, one.arrived, one.started, one.finished) for one in simulation.samples.values()]
    return load.summary(name, stays, seconds)


def apart(measured: dict[str, Any], simulated: dict[str, Any]) -> dict[str, Any]:
    """The simulator's errors: of pictures/s as a part, of each class's median and p95 wait in s; and whether they are
    within the tolerance.
    """
    rate = simulated["per_second"] / max(measured["per_second"], SLOWEST) - 1
    step = load.COST.seconds(load.BATCH, load.SIDE**2)
    waits, within = {}, abs(rate) <= TOLERANCE["per_second"]
    for name, real in measured["waits"].items():
        waits[name] = [round(said - was, 3) for said, was in zip(simulated["waits"][name], real, strict=True)]
        within &= abs(waits[name][0]) <= max(step, TOLERANCE["waits"] * real[0])
    return {"per_second": round(rate, 3), "waits": waits, "within": within}


def errors(promised: dict[UUID, estimates.Outlook]) -> dict[str, Any]:
    """Of `estimated_time` in s: promised less real, until generated (nothing runs after the GPU here). Of `position`:
    promised
    less the place taken among those that were there. Empties `promised`.
    """
    found = Task.objects.in_bulk(list(promised))
    order = [(task.started_at, task.created_at) for task in found.values()]
    times, places, real = [], [], []
    for task_id, outlook in promised.items():
        task = found[task_id]
        real.append((task.generated_at - task.created_at).total_seconds())  # type: ignore[operator]
        times.append(outlook.seconds - estimates.AFTER_GPU_S - real[-1])
        if outlook.position is not None:
            mine = (task.started_at, task.created_at)
            before = sum(task.created_at < one[0] and one < mine and one[1] < task.created_at for one in order)  # type: ignore[operator]
            places.append(outlook.position - 1 - before)
    promised.clear()
    return {
        "tasks": len(found),
        "real_s": load.spread(real),
        "estimated_time_s": _errors(times),
        "position": _errors(places) | {"tasks": len(places)},
    }


def _errors(off: Sequence[float]) -> dict[str, Any]:
    """Median error, and [median, 95th percentile] of its size."""
    return {"median": load.part(off, 0.5), "size": load.spread([abs(value) for value in off])}


def lines(found: dict[str, Any]) -> list[str]:
    """The page's part."""
    idle_ = found["idle"]
    rows = []
    for run in found["loads"]:
        for kind in ("measured", "simulated"):
            rows.append(row(f"{run['load']}, {kind}", run[kind]))
    claim, first = idle_["submit_to_claim_ms"], idle_["submit_to_first_step_ms"]
    return [
        f"Two workers, batches of {load.BATCH}, steps that sleep (deploy/bench/queue/load.py), "
        f"{found['seconds']:.0f} s of each load; a turn of the loop takes {found['turn_overhead_ms']} ms beside its "
        "step. Waits until the first step, median / 95th percentile. "
        "A full step takes 92 ms, one that only P0 shares 18 to 29 ms.", "",
        HEAD, *rows, "",
        "Simulator less measured: " + "; ".join(_apart_words(run) for run in found["loads"]) + ". Tolerance: 10 % of "
        "pictures/s, and of each class's median wait 25 % or one full step.", "",
        f"Idle workers, {idle_['tasks']} tasks, one after the other: claimed {claim[0]:.0f} ms after submission (p99 "
        f"{claim[1]:.0f}), first step after {first[0]:.0f} ms (p99 {first[1]:.0f}).", "",
        "Told at submission, less what came: " + " ".join(_promises(run) for run in found["loads"] if "told" in run),
    ]  # fmt: skip


HEAD = "| load | pictures/s | P0 waits | P1 | P2 | P3 | until its picture | shares |\n|---|---|---|---|---|---|---|---|"


def row(name: str, found: dict[str, Any]) -> str:
    waits = " | ".join("{:.2f} / {:.2f} s".format(*found["waits"][f"P{class_}"]) for class_ in range(4))
    parts = ":".join(f"{10 * share:.1f}" for share in found.get("shares", ()))
    until = "{:.2f} / {:.2f} s".format(*found["until_picture"])
    return f"| {name} | {found['per_second']:.2f} | {waits} | {until} | {parts} |"


def _apart_words(run: dict[str, Any]) -> str:
    off = run["off"]
    waits = ", ".join(f"{name} {values[0]:+.2f} s" for name, values in off["waits"].items())
    verdict = "within" if off["within"] else "outside"
    return f"{run['load']} {off['per_second']:+.1%} pictures/s, {waits} ({verdict})"


def _promises(run: dict[str, Any]) -> str:
    promised = run["told"]
    seconds, position = promised["estimated_time_s"], promised["position"]
    return (
        f"{run['load']}, {promised['tasks']} tasks that took {promised['real_s'][0]:.2f} s (median): `estimated_time` "
        f"{seconds['median']:+.2f} s (median), {seconds['size'][0]:.2f} / {seconds['size'][1]:.2f} s in size; "
        f"`position` of {position['tasks']} that waited {position['median']:+.0f}, {position['size'][0]:.0f} / "
        f"{position['size'][1]:.0f} in size."
    )
