"""Pictures that were kept for identical requests long enough."""

from datetime import UTC, datetime, timedelta
from typing import Final

from celery import shared_task

from generation.tasks import results
from storage import keys
from storage.store import get_store

_MARGIN: Final = timedelta(minutes=5)  # between the end of an entry and that of its object


@shared_task(name="maintenance.results")
def sweep_results() -> int:
    """Delete the objects whose entries have expired; how many there were."""
    old = datetime.now(UTC) - timedelta(seconds=results.lifetime()) - _MARGIN
    expired = [found.key for found in get_store("raw").list(keys.RESULTS) if found.modified < old]
    for key in expired:
        get_store("raw").delete(key)
    return len(expired)
