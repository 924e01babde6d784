"""The end of a day's history after HISTORY_DAYS (imagegenx_site/settings.py, 90): its objects, then its rows and
partitions. Nothing is left behind, nothing points at nothing.

    1 objects of the day, in the store and in the spool    an interrupted run finds rows, and comes again
    2 rows in the DEFAULT partition, the day's partitions  a task of that day no longer exists
    3 objects once more                                    what somebody made of them during 1 and 2
    4 what refers to the day by id alone: batches, pictures on boards, refused requests
"""

import logging
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from celery import shared_task
from django.conf import settings
from django.db import connection, transaction

from generation.policy.models import PolicyRefusal
from generation.tasks import partitions
from generation.tasks.models import Batch, BoardPicture
from generation.telemetry import job_leases
from imagegenx_site.ids import first_id_of, moment_of
from storage import keys
from storage.store import Store, get_store

_AT_ONCE: Final = 16  # deletions that wait for the store side by side
_JOB: Final = "retention"  # one process at a time ends history
_LEASE_S: Final = 900.0  # longer than a day of history takes
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ended:
    """What was taken away."""

    days: int = 0
    objects: int = 0
    partitions: int = 0


def end_before(first_kept: date) -> Ended:
    """End every day before `first_kept`, the oldest first; nothing while another process is at it.

    Raises StoreUnavailable when objects can't be deleted: their rows stay until the next run.
    """
    owner = uuid.uuid4().hex
    if not job_leases.take(_JOB, owner, _LEASE_S):
        return Ended()
    try:
        return _end(first_kept, owner)
    finally:
        job_leases.release(_JOB, owner)


def due(first_kept: date) -> list[date]:
    """The days that are over: those with partitions, and those whose rows lie in the DEFAULT one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM generation_task_default WHERE id < %s", [str(first_id_of(first_kept))])
        strays = {moment_of(row[0]).date() for row in cursor.fetchall()}
    made = set().union(*partitions.existing_days().values())
    return sorted(day for day in made | strays if day < first_kept)


def _end(first_kept: date, owner: str) -> Ended:
    store, days = get_store("images"), due(first_kept)
    objects = dropped = 0
    for day in days:
        if not job_leases.take(_JOB, owner, _LEASE_S):
            break
        objects += _delete_objects(store, day)
        _delete_strays(day)
        dropped += len(partitions.drop_before(day + timedelta(days=1)))
        objects += _delete_objects(store, day)
        _log.info("history ended", extra={"day": day.isoformat(), "objects": objects})
    # A batch's tasks lie in its day or the next.
    Batch.objects.filter(id__lt=first_id_of(first_kept - timedelta(days=1)))._raw_delete(Batch.objects.db)
    BoardPicture.objects.filter(task_id__lt=first_id_of(first_kept))._raw_delete(BoardPicture.objects.db)
    start = datetime.combine(first_kept, time(), UTC)
    PolicyRefusal.objects.filter(created_at__lt=start).delete()
    return Ended(len(days), objects, dropped)


def _delete_objects(store: Store, day: date) -> int:
    """Every object of the day's tasks, several at once; how many."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return sum(1 for _ in threads.map(store.delete, _listed(store, day)))


def _listed(store: Store, day: date) -> Iterator[str]:
    for prefix in keys.day_prefixes(datetime.combine(day, time(), UTC)):
        yield from [found.key for found in store.list(prefix)]


def _delete_strays(day: date) -> None:
    """Rows of the day outside its partitions, children first."""
    bounds = [str(first_id_of(day)), str(first_id_of(day + timedelta(days=1)))]
    with transaction.atomic(), connection.cursor() as cursor:
        for table in reversed(partitions.TABLES):
            cursor.execute(f'DELETE FROM "{table}_default" WHERE id >= %s AND id < %s', bounds)


@shared_task(name="maintenance.retention")
def end_history() -> None:
    """Days older than HISTORY_DAYS: their pictures, rows and partitions."""
    end_before(datetime.now(UTC).date() - timedelta(days=settings.HISTORY_DAYS))
