"""The queues under a live load, beside what the simulator and the estimates had said.

    python -m deploy.services run -- python -m workers.bench.live [--seconds 40] [--rate 12] [--write FOLDER]

Two GPU workers whose engine sleeps 50 ms a step (batch of 8), real Postgres and Redis; tasks of all classes come at
random moments. Printed: pictures/s and waits by class, measured and simulated with the same arrivals; the error of
`estimated_time` and `position` as they were told at submission.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import django
from redis import Redis

STEP_MS, STEPS, DEVICES = 50, 20, 2
MIX = ((0.05, 0), (0.35, 1), (0.5, 2), (0.1, 3))  # weight, class
SIDE = 256


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workers.bench.live")
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--rate", type=float, default=12, help="tasks/s; two workers can do 16")
    parser.add_argument("--write", default="", help="folder for live.json")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imagegenx_site.settings")
    django.setup()
    from workers.simulation import Kind, Scenario, StepCost

    mix = [Kind(weight, class_, SIDE, STEPS) for weight, class_ in MIX]
    scenario = Scenario(
        options.rate * 86_400, DEVICES, StepCost(STEP_MS, 0, after_ms=0), mix, peak=1, seconds=options.seconds
    )
    predicted = _simulated(scenario)
    with tempfile.TemporaryDirectory(prefix="imagegenx-live-") as folder:
        measured = _measured(Path(folder), scenario)
    result = {"predicted": predicted, "measured": measured}
    print(json.dumps(result, indent=1))
    if options.write:
        Path(options.write, "live.json").write_text(json.dumps(result, indent=1) + "\n")


def _simulated(scenario: Any) -> dict[str, Any]:
    from workers.simulation import Simulation

    address = os.environ["REDIS_URL"].rpartition("/")[0] + "/1"
    redis = Redis.from_url(address, decode_responses=True)
    redis.flushdb()
    outcome = Simulation(redis, scenario).run()
    redis.flushdb()
    waits = {f"P{class_}": [round(wait, 3) for wait in waits] for class_, waits in outcome.waits.items()}
    return {"per_second": round(outcome.per_second, 2), "waits_p50_p95": waits, "left": outcome.backlog}


def _measured(folder: Path, scenario: Any) -> dict[str, Any]:
    from django.conf import settings
    from django.core.management import call_command

    from generation import partitions
    from generation.models import User
    from workers.tests.fleet import Fleet

    call_command("migrate", verbosity=0)
    call_command("seed", verbosity=0)
    partitions.ensure(datetime.now(UTC).date(), 2)
    Redis.from_url(settings.REDIS_URL).flushdb()
    user = User.objects.create(username="owner")
    env = {name: os.environ[name] for name in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY")}
    fleet = Fleet(folder, env | {"STAND_IN_STEP": str(STEP_MS / 1000), "RAW_ROOT": str(folder / "raw")})
    try:
        fleet.start("gpu1", "gpu2", "reconciler")
        return _run(user, scenario)
    finally:
        fleet.stop(*fleet.processes)


def _run(user: Any, scenario: Any) -> dict[str, Any]:
    """The same arrivals as the simulator's, by the clock."""
    from generation import estimates
    from generation.models import Task
    from workers.simulation import arrivals
    from workers.tests.fleet import submit, wait_until

    begun, told = time.monotonic(), {}
    for sample in arrivals(scenario):
        time.sleep(max(0.0, begun + sample.arrived - time.monotonic()))
        (task_id,) = submit(user, steps=STEPS, priority=sample.kind.priority)
        told[task_id] = estimates.outlook(Task.objects.get(pk=task_id))
    rows = Task.objects.filter(pk__in=told)
    generated = rows.filter(generated_at__isnull=False).count()
    took = time.monotonic() - begun
    wait_until(lambda: not rows.filter(generated_at=None).exists(), 300)
    found = {task.pk: task for task in rows}
    return {"per_second": round(generated / took, 2), **_waits(list(found.values())), **_errors(told, found)}


def _waits(tasks: Sequence[Any]) -> dict[str, Any]:
    waits: dict[str, list[float]] = {}
    for task in tasks:
        waits.setdefault(f"P{task.priority}", []).append((task.started_at - task.created_at).total_seconds())
    return {
        "waits_p50_p95": {name: [_part(values, 0.5), _part(values, 0.95)] for name, values in sorted(waits.items())}
    }


def _errors(told: dict[UUID, Any], found: dict[UUID, Any]) -> dict[str, Any]:
    """Of `estimated_time` in s, told less real (until generated); of `position`, told less the place taken."""
    order = sorted(found.values(), key=lambda task: task.started_at)
    times, places = [], []
    for task_id, outlook in told.items():
        task = found[task_id]
        times.append(outlook.seconds - (task.generated_at - task.created_at).total_seconds())
        if outlook.position is not None:
            before = sum(1 for one in order if task.created_at < one.started_at < task.started_at)
            places.append(outlook.position - 1 - before)
    real = statistics.median((task.generated_at - task.created_at).total_seconds() for task in found.values())
    return {
        "tasks": len(found),
        "median_s_until_generated": round(real, 2),
        "estimated_time_error_s": _spread(times),
        "position_error": {"tasks": len(places), **_spread(places)},
    }


def _spread(errors: Sequence[float]) -> dict[str, float]:
    absolute = [abs(error) for error in errors]
    return {"median": _part(errors, 0.5), "abs_p50": _part(absolute, 0.5), "abs_p95": _part(absolute, 0.95)}


def _part(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))], 3) if ordered else 0.0


if __name__ == "__main__":
    main()
