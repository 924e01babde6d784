"""What Celery and kombu do anew for each message and need to do once (docs/decisions/0006).

Connections to Postgres: Celery closes every connection of a worker before and after each message, so a task makes five
new ones on its way, which cost Postgres more than all its statements. Here a connection lives for
DATABASE_CONN_MAX_AGE, and one that the server has closed is found by Django's health check before its next use.

Clients of Redis: kombu makes an object for each command that it sends, which takes longer than the command.

Events: generation/queue/celery_events.py.
"""

import os
from typing import Any, Final

from celery import Celery
from celery.fixups.django import DjangoFixup, DjangoWorkerFixup  # type: ignore[attr-defined]  # missing in the stubs
from django.db import close_old_connections
from kombu.transport import redis as transport

WAIT_S: Final = 5  # s of one blocking read of all queues; a message ends it
GPU_WORKER: Final = "gpu-worker"


class KeptConnections(DjangoWorkerFixup):
    """Celery's Django support, but for what it does between two messages."""

    def close_database(self, **_: Any) -> None:
        """Close what is too old or broken, in this thread; the health check is due again."""
        close_old_connections()


def keep_connections(app: Celery) -> None:
    """For workers of this app that start from now on."""
    for fixup in app._fixups:  # type: ignore[attr-defined]  # Celery has no public access to it
        if isinstance(fixup, DjangoFixup):
            fixup.worker_fixup = KeptConnections(app)  # type: ignore[misc]  # it has a setter


class ThriftyChannel(transport.Channel):
    """kombu's channel with one client for all commands; those that wait for messages have their own, as before."""

    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous)  # type: ignore[misc]  # missing in the stubs
        if self._kept is None or self._kept.connection_pool is not self.pool:  # a lost connection makes a new pool
            self._kept = super()._create_client()  # type: ignore[misc]
        return self._kept


def apply(app: Celery) -> None:
    """For every channel and worker from now on."""
    keep_connections(app)
    transport.Transport.Channel = ThriftyChannel
    process = os.environ.get("PROCESS_NAME", "")
    if process and process != GPU_WORKER:  # a GPU worker may open its gate meanwhile (generation/queue/read_order.py)
        transport.Transport.brpop_timeout = WAIT_S
    app.conf.worker_consumer = "generation.queue.celery_events:ThriftyConsumer"
