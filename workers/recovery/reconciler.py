"""The reconciler process: `python -m workers.recovery.reconciler`. Its repairs: workers/recovery/__init__.py.

    what is lost                        what happens
    a ticket (message of p0..p3)        a new one is sent (audit; after a crash lost_workers). Nothing waits for it:
                                        workers claim from the entries in Redis, a ticket wakes an idle one
    a task's entry in Redis             its row is enqueued again (audit)
    a message of a stage                it is sent again from the row's state (stages)
    all of Redis                        every queued row is enqueued again (redis_epoch)
    a GPU worker                        its tasks are requeued (its watchdog, else leases; then lost_workers)

Any number of these may run, one of them is active: the holder of a lease in Postgres, renewed before each repair
(generation/telemetry/job_leases.py). The others look every half second whether it is free. Two that are active for a
moment do no harm: every move is fenced by its row.
"""

import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import django
from django.conf import settings
from django.db import Error, connection
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from workers.recovery.schedule import Repair

logger = logging.getLogger(__name__)
JOB = "reconciler"
LEASE_S = 3.0
RENEW_S = 1.0
LOOK_S = 1.0  # from one look for open tasks to the next
LEAST_S, MOST_S = 0.01, 0.5  # of a pause between two turns


class RepairRunner:
    """Runs repairs at their periods; one that fails is tried again at its next turn and stops no other. `any_open`
    tells whether a task is open: it is asked every LOOK_S, and where none is, the repairs run less often.
    """

    def __init__(self, repairs: "Sequence[Repair]", any_open: Callable[[], bool] = lambda: True) -> None:
        self._repairs, self._any_open = repairs, any_open
        self._ended = {repair.name: float("-inf") for repair in repairs}
        self._look_at, self._open = 0.0, True

    def run_due(self, active: Callable[[], bool] = lambda: True) -> None:
        """As long as `active`, which is asked before each. Raises django.db.Error: without Postgres there is nothing to
        reconcile, and the lease may be lost.
        """
        self._look()
        for repair in self._repairs:
            if time.monotonic() < self._due(repair):
                continue
            if not active():
                return
            try:
                repair.run()
            except (RedisError, OperationalError) as error:
                logger.warning("%s: Redis is out of reach: %s", repair.name, error)
            self._ended[repair.name] = time.monotonic()

    def patience(self) -> float:
        """s until something is to be done, MOST_S at most."""
        due = min([self._look_at, *map(self._due, self._repairs)])
        return min(max(due - time.monotonic(), LEAST_S), MOST_S)

    def _due(self, repair: "Repair") -> float:
        return self._ended[repair.name] + (repair.period if self._open else repair.idle_period)

    def _look(self) -> None:
        if time.monotonic() >= self._look_at:
            self._open = self._any_open()
            self._look_at = time.monotonic() + LOOK_S


class ActiveLease:
    """Whether this process is the active one. `active` asks Postgres every RENEW_S; it raises django.db.Error."""

    def __init__(self) -> None:
        from generation.telemetry import job_leases  # models can be imported once Django is set up

        self._leases = job_leases
        self._owner = f"{socket.gethostname()[:60]}-{uuid.uuid4().hex}"
        self._held = False
        self._ask_at = 0.0

    def active(self) -> bool:
        now = time.monotonic()
        if now >= self._ask_at:
            self._ask_at = now + RENEW_S
            held, self._held = self._held, self._leases.take(JOB, self._owner, LEASE_S)
            if held != self._held:
                logger.info("active" if self._held else "standing by: another one is active")
        return self._held

    def lost(self) -> None:
        """Postgres did not answer."""
        self._held, self._ask_at = False, 0.0

    def release(self) -> None:
        try:
            self._leases.release(JOB, self._owner)
        except Error as error:
            logger.warning("the lease runs out by itself: %s", error)


def run(runner: RepairRunner, stopping: threading.Event, lease: ActiveLease, beat: Callable[[], None]) -> None:
    """Works whenever it is the active one, until it has to stop. `beat` is called in every turn."""
    while not stopping.is_set():
        beat()
        try:
            active = lease.active()
            if active:
                runner.run_due(lease.active)
            stopping.wait(runner.patience() if active else MOST_S)
        except Error as error:
            logger.warning("Postgres is out of reach: %s", error)
            lease.lost()
            connection.close()
            stopping.wait(0.5)
    lease.release()


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imagegenx_site.settings")
    django.setup()
    from generation.tasks import open_tasks
    from imagegenx_site import heartbeat, metrics_files, readiness
    from imagegenx_site.redis_clients import connect
    from workers.recovery.schedule import RecoveryConfig, repairs

    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    redis = connect(settings.REDIS_URL, settings.REDIS_TIMEOUT_S)
    runner = RepairRunner(repairs(redis, RecoveryConfig()), open_tasks.any_open)
    metrics_files.serve(settings.METRICS_PORT)
    own = heartbeat.of_this_process()
    readiness.announce()
    run(runner, stopping, ActiveLease(), own.beat if own else lambda: None)
    if own is not None:
        own.leave()


if __name__ == "__main__":
    main()
