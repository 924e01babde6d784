"""Starts the pulls and imports that were asked for in the admin."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from celery import shared_task
from django.db import connection

from generation.catalogue.presets import incoming, requested

_busy: Final = threading.Lock()  # one at a time in a process: each fetches or writes several files at once


@shared_task(name="maintenance.start_model_pulls")
def start_model_pulls() -> None:
    """In a thread of its own: a pull takes hours, and other jobs go on. It ends with this process, and another takes it
    up (generation/catalogue/presets/requested.py).
    """
    if not _busy.acquire(blocking=False):
        return
    work = _next()
    if work is None:
        _busy.release()
        return
    threading.Thread(target=_do, args=(work,), name="model", daemon=True).start()


def _next() -> Callable[[], None] | None:
    if preset := requested.claim():
        return partial(requested.run, preset)
    if wanted := incoming.claim():
        return partial(incoming.run, wanted)
    return None


def _do(work: Callable[[], None]) -> None:
    try:
        work()
    finally:
        connection.close()
        _busy.release()
