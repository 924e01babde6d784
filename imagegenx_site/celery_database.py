"""Celery workers keep their connections to Postgres, as the web process does.

Celery closes every connection of a worker before and after each message: a task makes five new ones on its way, which
cost Postgres more than all its statements. Here a connection lives for DATABASE_CONN_MAX_AGE, and one that the server
has closed is found by Django's health check before its next use.
"""

from typing import Any

from celery import Celery
from celery.fixups.django import DjangoFixup, DjangoWorkerFixup  # type: ignore[attr-defined]  # missing in the stubs
from django.db import close_old_connections


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
