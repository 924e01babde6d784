"""The same loads on ImageGenX, on plain Celery and on celery-batches, with the same stand-in work on the same machine.

Each has two workers and Redis as its broker. What differs: plain Celery does one message, one task; celery-batches
waits for eight messages or 50 ms and does them as one; ImageGenX batches by the step, keeps a row per task in Postgres,
and writes its pictures. celery-batches needs celery < 5.7, so it lives in an environment of its own; `python` names its
interpreter.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from celery import Celery
from redis import Redis

from deploy.bench.queue import live, load
from deploy.bench.queue.load import Stay
from fixtures.fleet import ROOT, wait_until

BROKER = 14  # Redis database
FREE_TASKS = 400  # of one step, which costs nothing
BATCHES = {"PEER_PREFETCH": "16"}  # one batch runs while the next gathers
NAMES = {"plain": "plain Celery", "batches": "celery-batches"}


class Peer:
    """Two workers of peer_worker.py; `kind` is the task that they run."""

    def __init__(self, kind: str, broker: str) -> None:
        self.kind, self.name = kind, NAMES[kind]
        self.redis = Redis.from_url(broker, decode_responses=True)
        options = {"queue_order_strategy": "priority", "priority_steps": [0]}
        self._app = Celery(
            broker=broker, broker_transport_options=options, task_ignore_result=True, set_as_current=False
        )
        self._pending: dict[str, tuple[int, float]] = {}

    def submit(self, priority: int, steps: int = load.STEPS) -> None:
        id_ = str(uuid4())
        self._pending[id_] = priority, time.time()
        self._app.send_task(self.kind, args=[id_, steps], queue=f"p{priority}")

    def stays(self) -> list[Stay]:
        pending, self._pending = self._pending, {}
        wait_until(lambda: self.redis.llen("done") >= len(pending), live.PATIENCE_S)
        ended = {id_: times for id_, *times in map(json.loads, self.redis.lrange("done", 0, -1))}
        self.redis.delete("done")
        return [Stay(priority, at, *ended[id_]) for id_, (priority, at) in pending.items()]


@contextmanager
def peer_workers(kind: str, python: str) -> Iterator[Peer]:
    """The workers run, and have worked, inside."""
    broker = live.redis_url(BROKER)
    Redis.from_url(broker).flushdb()
    env = os.environ | {"PEER_BROKER": broker, "PEER_COST": f"{load.COST.fixed_ms},{load.PER_SAMPLE_MS}"}
    env |= BATCHES if kind == "batches" else {}
    env.pop("DJANGO_SETTINGS_MODULE", None)
    argv = [
        python,
        "-m",
        "celery",
        "-A",
        "deploy.bench.queue.peer_worker",
        "worker",
        "-c",
        "1",
        "-Q",
        "p0,p1,p2,p3",
        "-l",
        "ERROR",
    ]
    argv += ["--without-gossip", "--without-mingle"]
    processes = [
        subprocess.Popen([*argv, "-n", f"{kind}{number}@bench"], env=env, stdout=subprocess.DEVNULL, cwd=ROOT)
        for number in range(load.DEVICES)
    ]
    try:
        peer = Peer(kind, broker)
        for _ in range(40):
            peer.submit(2, steps=1)
        peer.stays()
        time.sleep(3 if load.DEVICES > 1 else 0)  # the slower one is up, too
        yield peer
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(60)


def measure(
    seconds: float, python: str, part: float = 1.0, keep: Callable[[dict[str, Any]], None] = lambda found: None
) -> dict[str, Any]:
    """Every system under every load, in one run, `keep` called after each; `missing` names what could not run."""
    found: dict[str, Any] = {"seconds": seconds, "runs": our_runs(seconds, part), "missing": {}}
    keep(found)
    for kind, interpreter in (("plain", sys.executable), ("batches", python)):
        if kind == "batches" and not _has_batches(interpreter):
            found["missing"][NAMES[kind]] = f"not installed: {interpreter or '--batches was not given'}"
            print(f"{NAMES[kind]}: {found['missing'][NAMES[kind]]}", flush=True)
        else:
            with peer_workers(kind, interpreter) as peer:
                found["runs"] += _runs(peer, seconds, part)
        keep(found)
    return found


def our_runs(seconds: float, part: float) -> list[dict[str, Any]]:
    with live.our_workers() as ours:
        return _runs(ours, seconds, part)


def _has_batches(python: str) -> bool:
    found = shutil.which(python) if python else None
    return (
        found is not None
        and subprocess.run([found, "-c", "import celery_batches"], capture_output=True).returncode == 0
    )


def _runs(system: Any, seconds: float, part: float) -> list[dict[str, Any]]:
    found = []
    for name in load.LOADS:
        stays = live.play(system, load.samples_of(name, seconds, part))
        found.append({"system": system.name, "load": name, **load.summary(name, stays, seconds)})
        print(live.row(f"{name}, {system.name}", found[-1]), flush=True)
    found[-1] |= free(system, round(FREE_TASKS * part))
    return found


def free(system: Any, count: int) -> dict[str, Any]:
    """Tasks/s where the work is free: what a message, or a row and a claim, costs; and ms of Redis for each."""
    before, begun = _redis_seconds(system.redis), time.time()
    for number in range(count):
        system.submit(number % 4, steps=1)
    stays = system.stays()
    took = max(stay.finished for stay in stays) - begun
    redis = (_redis_seconds(system.redis) - before) / count
    return {"free_per_second": round(count / took, 1), "free_redis_ms": round(redis * 1e3, 3)}


def _redis_seconds(redis: Redis) -> float:
    used = redis.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


def lines(found: dict[str, Any]) -> list[str]:
    """The page's part."""
    runs = sorted(found["runs"], key=lambda run: load.LOADS.index(run["load"]))
    table = [live.row(f"{run['load']}, {run['system']}", run) for run in runs]
    free_ = [
        f"{run['system']} {run['free_per_second']:.0f}/s, {run['free_redis_ms']:.2f} ms of Redis"
        for run in runs if "free_per_second" in run
    ]  # fmt: skip
    missing = [f"{name}: {why}." for name, why in found["missing"].items()]
    return [
        f"{found['seconds']:.0f} s of each load in one run. Plain Celery reads its four queues in the order of their "
        "classes, one task at a time; celery-batches shares all steps of eight messages. All tasks could share a "
        "batch, which suits celery-batches, for it has no notion of a batch key.", "",
        live.HEAD, *table, "", *missing,
        "Tasks whose work is free, submission included, from one process: " + "; ".join(free_) + ". ImageGenX writes a "
        "row, its history and a picture for each; the others keep nothing.",
    ]  # fmt: skip
