"""Deletion of a task with its text and pictures."""

import logging
from typing import Final

from django.db import transaction
from django.utils import timezone

from generation.tasks import results
from generation.tasks.cancel import cancel_task
from generation.tasks.models import BoardPicture, Task
from imagegenx_site import caches
from storage.errors import StorageError
from storage.store import get_store
from storage.variants import delete_task as delete_objects

_TEXTS: Final = ("text", "negative_text", "translated_text", "translated_negative_text")  # of the parameters
_log = logging.getLogger(__name__)


def delete_task(task: Task) -> None:
    """Hide a task from its owner and take its text and pictures away; an open one is cancelled first.

    The row stays without them, for the usage and the fair counting of quotas.
    """
    if not task.terminal:
        cancel_task(task)
    caches.tasks().block(str(task.id))
    params = {**task.params, **dict.fromkeys(_TEXTS, "")}
    Task.objects.filter(pk=task.pk).update(deleted_at=timezone.now(), text="", params=params)
    transaction.on_commit(lambda: caches.tasks().invalidate(str(task.id)))
    try:
        delete_objects(get_store("images"), task.id)
    except StorageError as error:  # the day's objects are dropped with the day
        _log.warning("objects of a deleted task stay until its day is dropped: %s: %s", task.id, error)
    results.delete_of(task.id)
    task.image_rows.delete()
    BoardPicture.objects.filter(task_id=task.pk).delete()
