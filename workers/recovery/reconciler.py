"""The reconciler process: `python -m workers.recovery.reconciler`. Its repairs: workers/recovery/__init__.py.

    what is lost                        what happens
    a ticket (message of p0..p3)        nothing is needed: workers claim from the entries in Redis, a ticket wakes an
                                        idle one; a task that is requeued after a crash gets a new one (lost_workers)
    a task's entry in Redis             its row is enqueued again (audit)
    a message of a stage                it is sent again from the row's state (stages)
    all of Redis                        every queued row is enqueued again (redis_epoch)
    a GPU worker                        its tasks are requeued (its watchdog, else leases; then lost_workers)

Any number of these may run, one of them is active: the holder of a Postgres advisory lock, which goes with its
connection. The others look every half second whether it is free.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import django
from django.conf import settings
from django.db import Error, connection
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from workers.recovery.schedule import Repair

logger = logging.getLogger(__name__)
LOCK = 0x1A6E6E78  # the advisory lock of the active one


class RepairRunner:
    """Runs repairs at their periods; one that fails is tried again at its next turn and stops no other."""

    def __init__(self, repairs: "Sequence[Repair]") -> None:
        self._repairs = repairs
        self._due = {repair.name: 0.0 for repair in repairs}

    def run_due(self) -> None:
        """Raises django.db.Error: without Postgres there is nothing to reconcile, and the lock may be lost."""
        for repair in self._repairs:
            if time.monotonic() < self._due[repair.name]:
                continue
            try:
                repair.run()
            except (RedisError, OperationalError) as error:
                logger.warning("%s: Redis is out of reach: %s", repair.name, error)
            self._due[repair.name] = time.monotonic() + repair.period


def hold_lock() -> bool:
    """Tries to become the active one; the lock lives as long as this process's connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])


def run(runner: RepairRunner, stopping: threading.Event) -> None:
    """Works whenever it holds the lock, until it has to stop."""
    active = False
    while not stopping.is_set():
        try:
            if not active:
                active = hold_lock()
                logger.log(logging.INFO if active else logging.DEBUG, "active" if active else "standing by")
            if active:
                runner.run_due()
            stopping.wait(0.05 if active else 0.5)
        except Error as error:
            logger.warning("Postgres is out of reach: %s", error)
            active = False
            connection.close()
            stopping.wait(0.5)


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imagegenx_site.settings")
    django.setup()
    from imagegenx_site import readiness
    from imagegenx_site.redis_clients import connect
    from workers.recovery.schedule import RecoveryConfig, repairs

    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    redis = connect(settings.REDIS_URL, settings.REDIS_TIMEOUT_S)
    runner = RepairRunner(repairs(redis, RecoveryConfig()))
    readiness.announce()
    run(runner, stopping)


if __name__ == "__main__":
    main()
