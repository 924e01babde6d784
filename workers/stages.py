"""What happens to a task after the GPU, as Celery functions: postprocess (queue cpu), upload and notify (queue io).

Each takes a lease on its stage in the row, works, and moves the row on. The chain of messages is only the fast path: the
reconciler sends a stage again from the row's state when its lease ran out, so every function may run twice and must then do
nothing the second time.

    postprocess   raw picture -> encoded original and thumbnail, still in the raw store, and their Image rows
    upload        -> the images store, verified; raw store emptied
    notify        -> succeeded, with the webhook's outbox row; then the first attempt to deliver it
"""

import logging
import socket
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

import cv2
import numpy as np
from celery import shared_task
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from generation import lifecycle, webhooks
from generation.models import Delivery, Image, Task
from generation.parameters import Parameters
from generation.uuid7 import image_id
from postprocessing.pipeline import Encoded, process, thumbnail
from postprocessing.recipe import Recipe
from storage import keys, raw
from storage.store import get_store

RETRY_AFTER_S: Final = (1, 5, 15, 60)  # waits before a failed stage is tried again

_log = logging.getLogger(__name__)


@shared_task(name="postprocess")
def postprocess(task_id: str) -> None:
    """generated -> processed."""
    _run_stage("postprocess", task_id, _postprocess)


@shared_task(name="upload")
def upload(task_id: str) -> None:
    """processed -> stored."""
    _run_stage("upload", task_id, _upload)


@shared_task(name="notify")
def notify(task_id: str) -> None:
    """stored -> succeeded."""
    _run_stage("notify", task_id, _notify)


def _run_stage(stage: str, task_text: str, work: Callable[[Task, str], None]) -> None:
    """Take the lease, work; a fault gives the stage back for a later try, the last one fails the task."""
    task_id, owner = UUID(task_text), f"{socket.gethostname()}:{uuid.uuid4().hex[:8]}"
    task = lifecycle.take_stage(task_id, stage, owner, settings.STAGE_SECONDS)
    if task is None:
        return
    try:
        work(task, owner)
    except Exception as error:
        _log.exception("stage failed", extra={"task_id": task_text, "stage": stage})
        _after_fault(task, stage, owner, error)


def _after_fault(task: Task, stage: str, owner: str, error: Exception) -> None:
    tries = task.stage_attempts
    if tries >= settings.STAGE_MAX_ATTEMPTS and stage != "notify":
        reason = f"{stage} failed {tries} times; the last time: {type(error).__name__}: {error}"
        lifecycle.fail(task.id, code=f"{stage}_failed", message=reason)
        return
    wait = RETRY_AFTER_S[min(tries, len(RETRY_AFTER_S)) - 1]
    next_at = timezone.now() + timedelta(seconds=wait)
    lifecycle.release_stage(task.id, owner=owner, next_at=next_at, reason=f"{stage}: {type(error).__name__}: {error}")


def _postprocess(task: Task, owner: str) -> None:
    parameters = Parameters.from_json(task.params)
    recipe = Recipe.from_json(dict(parameters.postprocess), dict(parameters.style_tone))
    pictures = [_raw_picture(task, index) for index in range(parameters.num_images)]
    for index, encoded in enumerate(process(pictures, recipe)):
        _keep_processed(task, index, parameters.seed_of(index), encoded, thumbnail(pictures[index]))
    lifecycle.mark_processed(task.id, owner=owner)


def _raw_picture(task: Task, index: int) -> np.ndarray:
    """The lossless picture as uint8 [H, W, 3] RGB."""
    data = np.frombuffer(raw.read(keys.raw_key(task.id, index, task.attempt)), np.uint8)
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _keep_processed(task: Task, index: int, seed: int, encoded: Encoded, small: Encoded) -> None:
    """Write both files to the raw store under their final keys, then the row that names them."""
    key = keys.image_key(task.id, index, encoded.sha256, encoded.content_type)
    small_key = keys.variant_key(key, "thumbs")
    get_store("raw").put(key, encoded.data, encoded.content_type)
    get_store("raw").put(small_key, small.data, small.content_type)
    fields = {
        "task": task,
        "index": index,
        "seed": seed,
        "key": key,
        "thumbnail_key": small_key,
        "format": keys.parse(key).extension,
        "content_type": encoded.content_type,
        "width": encoded.width,
        "height": encoded.height,
        "bytes": len(encoded.data),
        "sha256": encoded.sha256,
    }
    Image.objects.update_or_create(id=image_id(task.id, index), defaults=fields)


def _upload(task: Task, owner: str) -> None:
    source, target = get_store("raw"), get_store("images")
    moved = [key for image in task.images.all() for key in (image.key, image.thumbnail_key)]
    for key in moved:
        if source.exists(key):
            target.put(key, source.read(key))
        elif not target.exists(key):  # neither waiting nor uploaded by an earlier run of this stage
            raise FileNotFoundError(f"{key} is in neither store")
    if lifecycle.mark_stored(task.id, owner=owner):
        raw.delete_task(task.id)
        for key in moved:
            source.delete(key)


def _notify(task: Task, owner: str) -> None:
    with transaction.atomic():
        if lifecycle.mark_succeeded(task.id, owner=owner):
            webhooks.write_delivery(task.id)
    for delivery_id in Delivery.objects.filter(task=task).values_list("id", flat=True):
        webhooks.send(delivery_id)
