"""Starts the pulls that were asked for in the admin."""

import threading
from typing import Final

from celery import shared_task
from django.db import connection

from generation.catalogue.models import ModelPreset
from generation.catalogue.presets import requested

_pulling: Final = threading.Lock()  # one at a time in a process: each fetches several files at once


@shared_task(name="maintenance.start_model_pulls")
def start_model_pulls() -> None:
    """In a thread of its own: a pull takes hours, and other jobs go on. It ends with this process, and another takes it
    up (generation/catalogue/presets/requested.py).
    """
    if not _pulling.acquire(blocking=False):
        return
    preset = requested.claim()
    if preset is None:
        _pulling.release()
        return
    threading.Thread(target=_pull, args=(preset,), name=f"pull-{preset.name}", daemon=True).start()


def _pull(preset: ModelPreset) -> None:
    try:
        requested.run(preset)
    finally:
        connection.close()
        _pulling.release()
