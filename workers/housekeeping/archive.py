"""Which originals go to the archive, and which rows learn that one came back."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from generation.tasks.models import Image
from imagegenx_site import caches, redis_clients
from imagegenx_site.ids import first_id_of
from storage import archive, keys
from storage.errors import StorageError
from storage.openings import unopened
from storage.store import Store, get_store

_CHUNK: Final = 1000  # rows and openings looked at together
_log = logging.getLogger(__name__)


@shared_task(name="maintenance.archive")
def archive_old_images() -> None:
    """Originals that nobody opened for ARCHIVE_AFTER_DAYS."""
    if settings.ARCHIVE_AFTER_DAYS:
        archive_unopened(settings.ARCHIVE_AFTER_DAYS)


def archive_unopened(days: int) -> int:
    """Move the originals that are older than `days` and were not opened for as long; how many.

    1 move, 2 note it in the row: a crash between leaves an archived original whose row says nothing; its readers find
    it all the same, and the next run notes it. Raises RedisError: without the record of openings nothing is moved.
    """
    store, moved = get_store("images"), 0
    for chunk in _chunks(days):
        for key in unopened(redis_clients.cache_client(), chunk, days):
            moved += _archive(store, key, chunk[key])
    return moved


@shared_task(name="maintenance.returns")
def bring_back() -> int:
    """Originals that were requested while they were in the archive; how many came back."""
    back = archive.move_back_requested(get_store("images"), redis_clients.cache_client())
    for key in back:
        task_id = keys.parse(key).task_id
        Image.objects.filter(task_id=task_id, key=key).update(archived_at=None)
        caches.tasks().invalidate(str(task_id))
    return len(back)


def _archive(store: Store, key: str, row: Image) -> bool:
    try:
        moved = archive.move_to_archive(store, key)
        if not moved and not store.exists(keys.archive_key(key)):
            return False  # gone; manage.py check_storage reports it
    except StorageError as error:
        _log.warning("%s is not archived: %s", key, error)
        return False
    Image.objects.filter(pk=row.pk, key=key).update(archived_at=timezone.now())
    caches.tasks().invalidate(str(row.task_id))
    return moved


def _chunks(days: int) -> Iterator[dict[str, Image]]:
    """Rows by key of the images in question, day by day."""
    today = datetime.now(UTC).date()
    for age in range(settings.HISTORY_DAYS, days - 1, -1):
        day = today - timedelta(days=age)
        rows = Image.objects.filter(
            id__gte=first_id_of(day), id__lt=first_id_of(day + timedelta(days=1)), archived_at=None
        )
        found = rows.only("id", "task_id", "key").iterator(_CHUNK)
        while chunk := list(islice(found, _CHUNK)):
            yield {row.key: row for row in chunk}
