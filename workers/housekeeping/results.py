"""Pictures that were kept for identical requests long enough."""

from datetime import UTC, datetime, timedelta
from typing import Final

from celery import shared_task
from django.conf import settings

from generation.tasks import results
from storage import keys
from storage.store import get_store

_MARGIN: Final = timedelta(minutes=5)  # between the end of an entry and that of its object


@shared_task(name="maintenance.results")
def sweep_results() -> int:
    """Delete the objects whose entries have expired, and the oldest ones beyond RESULT_CACHE_BYTES; how many there
    were.
    """
    old = datetime.now(UTC) - timedelta(seconds=results.lifetime()) - _MARGIN
    swept, left = 0, settings.RESULT_CACHE_BYTES
    for found in sorted(get_store("raw").list(keys.RESULTS), key=lambda one: one.modified, reverse=True):
        left -= found.size
        if found.modified < old or left < 0:
            get_store("raw").delete(found.key)
            swept += 1
    return swept
