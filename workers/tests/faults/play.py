"""The faults and how one is performed. Imported once Django is set up."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from django.core.management import call_command
from django.db import Error, connection

from generation import partitions, tickets
from generation.models import Status, Task, User
from workers.tests.faults.result import LIMIT_S, STEPS, TASKS, Result
from workers.tests.faults.stage import Stage, Supervisor, blocked, watchdog_of
from workers.tests.fleet import Fleet, all_ended, doubled, statuses, submit

PROCESSES = ("gpu1", "gpu2", "cpu1", "io1", "reconciler1", "reconciler2")
AFTER_GPU = (Status.GENERATED, Status.PROCESSED, Status.STORED)
Act = Callable[[], None]


class Play:
    """One database, one fleet, many performances."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        call_command("migrate", verbosity=0)
        call_command("seed", verbosity=0)
        partitions.ensure(datetime.now(UTC).date(), 2)
        self.user = User.objects.create(username="owner")
        self.fleet = Fleet(stage.folder, stage.env)
        self.supervisor = Supervisor(self.fleet)

    def open(self) -> None:
        """Everything starts; `close` ends it, also when this raised."""
        self.fleet.start(*PROCESSES)
        self.supervisor.start()

    def close(self) -> None:
        self.supervisor.stopping.set()
        if self.supervisor.is_alive():
            self.supervisor.join()
        self.fleet.stop(*self.fleet.processes)

    # ---- one performance

    def perform(self, fault: str, act: Act, moment: str) -> Result:
        """Submits tasks, lets the fault happen at the moment, submits some more, and waits for the end of all."""
        self._everything_up()
        ids = self._submit(TASKS, STEPS)
        extra = {"a step hangs": "hang", "a poison task": "poison", "a lost device": "device"}.get(fault)
        if extra:
            ids += submit(self.user, extra, steps=STEPS)
        self._await(moment, ids)
        running = list(Task.objects.filter(pk__in=ids, status=Status.RUNNING).values_list("id", flat=True))
        begun, at = time.monotonic(), datetime.now(UTC)
        act()
        connection.close()  # the server may have been another one
        with suppress(Error):
            ids += self._submit(2, STEPS)
        recovered = self._ended(ids, begun)
        return Result(
            fault, moment, _ran_on(running, at), recovered, self._lost(ids), len(doubled(ids)), dict(statuses(ids))
        )

    def _submit(self, count: int, steps: int) -> list[UUID]:
        return [*submit(self.user, count=count - 2, steps=steps), *submit(self.user, count=2, steps=steps, priority=0)]

    def _everything_up(self) -> None:
        end = time.monotonic() + 240
        while not all(self.fleet.alive(name) and self.fleet.ready(name) for name in PROCESSES):
            if time.monotonic() > end:
                raise RuntimeError("the fleet did not come back after the last fault")
            time.sleep(0.05)

    def _await(self, moment: str, ids: list[UUID]) -> None:
        """waiting: at once; mid-batch: some run and have run for a while; after the GPU: some are in a later stage."""
        wanted: tuple[str, ...] = {"mid-batch": (Status.RUNNING,), "after the GPU": AFTER_GPU}.get(moment, ())
        end = time.monotonic() + 20
        while wanted and time.monotonic() < end and not Task.objects.filter(pk__in=ids, status__in=wanted).exists():
            time.sleep(0.002)
        if moment == "mid-batch":
            time.sleep(0.2)

    def _ended(self, ids: list[UUID], begun: float) -> float | None:
        while time.monotonic() - begun < LIMIT_S:
            try:
                if all_ended(ids):
                    return time.monotonic() - begun
            except Error:
                connection.close()
            time.sleep(0.02)
        return None

    def _lost(self, ids: list[UUID]) -> int:
        ended = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED)
        return len(ids) - Task.objects.filter(pk__in=ids, status__in=ended).count()

    # ---- the faults

    def faults(self) -> dict[str, Act]:
        """Every fault by name; each returns when it is over or has been done."""
        redis, postgres, folder = self.stage.redis, self.stage.postgres, self.stage.folder
        return {
            "none": lambda: None,
            "kill -9 GPU worker": lambda: self.fleet.signal("gpu1"),
            "SIGTERM GPU worker": lambda: self.fleet.signal("gpu1", signal.SIGTERM),
            "kill -9 its watchdog": lambda: os.kill(self._watchdog(), signal.SIGKILL),
            "kill -9 both": self._kill_both,
            "kill -9 CPU worker": lambda: self.fleet.signal("cpu1"),
            "SIGTERM CPU worker": lambda: self.fleet.signal("cpu1", signal.SIGTERM),
            "kill -9 IO worker": lambda: self.fleet.signal("io1"),
            "SIGTERM IO worker": lambda: self.fleet.signal("io1", signal.SIGTERM),
            "kill -9 both reconcilers": self._kill_reconcilers,
            "Redis kill -9, back after 1 s with its file": lambda: self._restart(redis.kill, redis.start, 1),
            "Redis kill -9, back after 1 s empty": lambda: self._restart(self._lose_redis, redis.start, 1),
            "Redis FLUSHALL": self._flush,
            "Redis stands still for 10 s": lambda: redis.pause(10),
            "Postgres kill -9, back after 1 s": lambda: self._restart(postgres.kill, postgres.start, 1),
            "Postgres away for 10 s": lambda: self._restart(postgres.stop, postgres.start, 10),
            "disk for raw pictures full for 5 s": blocked(folder / "raw", 5),
            "object store away for 5 s": blocked(folder / "media", 5),
            "all messages lost": self._lose_messages,
            "all messages doubled": self._double_messages,
            "a step hangs": lambda: None,
            "a poison task": lambda: None,
            "a lost device": lambda: None,
        }

    def _watchdog(self) -> int:
        return watchdog_of(self.fleet.processes["gpu1"].pid)

    def _kill_both(self) -> None:
        os.kill(self._watchdog(), signal.SIGKILL)
        self.fleet.signal("gpu1")

    def _kill_reconcilers(self) -> None:
        for name in ("reconciler1", "reconciler2"):
            self.fleet.signal(name)

    def _flush(self) -> None:
        tickets.client().flushall()

    def _lose_redis(self) -> None:
        self.stage.redis.kill()
        self.stage.empty_redis_file()

    def _restart(self, down: Act, up: Act, away: float) -> None:
        down()
        time.sleep(away)
        up()

    def _queues(self) -> list[str]:
        return [key.decode() for key in tickets.client().scan_iter("*") if key.decode() in QUEUES or key[:3] == b"dq."]

    def _lose_messages(self) -> None:
        for queue in self._queues():
            tickets.client().delete(queue)

    def _double_messages(self) -> None:
        for queue in self._queues():
            for message in tickets.client().lrange(queue, 0, -1):
                tickets.client().lpush(queue, message)


def _ran_on(ids: list[UUID], at: datetime) -> float | None:
    """Seconds from the fault until the last of these tasks was claimed anew, generated or ended."""
    waits = []
    for task in Task.objects.filter(pk__in=ids):
        moves = [datetime.fromisoformat(entry["at"]) for entry in task.history if entry.get("to", "queued") != "queued"]
        waits.append(min(((move - at).total_seconds() for move in moves if move > at), default=LIMIT_S))
    return max(waits, default=None)


QUEUES = ("p0", "p1", "p2", "p3", "cpu", "io")
