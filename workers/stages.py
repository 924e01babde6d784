"""What happens to a task after the GPU, as Celery functions on the queues cpu and io.

Each takes a lease on its stage in the row, works, and moves the row on. The chain of messages is only the fast path:
the reconciler sends a stage again from the row's state when its lease ran out, so every function may run twice and must
then do nothing the second time.

    postprocess   raw picture -> encoded original and thumbnail, still in the raw store, and their Image rows; with it
                  those of waiting tasks of the same size that ask for the same
    upload        -> the images store, verified
    notify        -> succeeded, with the webhook's outbox row; its first attempt; the raw store emptied
    enlarge       for recipes with a late step: the whole recipe, after the first version was delivered

The raw picture stays until the end: only then is there nothing left that would need it.
"""

import itertools
import logging
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import cv2
import numpy as np
from celery import current_app, shared_task
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from redis.exceptions import RedisError

from generation import caches, estimates, events, lifecycle, loras, metrics, webhooks
from generation.models import Delivery, Image, Status, Task
from generation.parameters import Parameters
from generation.uuid7 import image_id
from postprocessing.errors import PostprocessingError
from postprocessing.formats import Encoded
from postprocessing.metadata import Notes
from postprocessing.pipeline import Finished, finish
from postprocessing.provenance import SignerConfig
from postprocessing.recipe import Recipe
from postprocessing.superres import SuperResConfig
from storage import keys, raw
from storage.store import Store, get_store
from workers import checking, handover

RETRY_AFTER_S: Final = (1, 5, 15, 60)  # waits before a failed stage is tried again
GROUP_PIXELS: Final = 4 << 20  # of finished pictures that are worked on together

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


@shared_task(name="enlarge")
def enlarge(task_id: str) -> None:
    """A late enlargement of a succeeded task. A lost message is found by maintenance.leftovers."""
    task = Task.objects.filter(pk=UUID(task_id), status=Status.SUCCEEDED).first()
    if task is not None and is_to_be_enlarged(task):
        _enlarge(task)


def is_to_be_enlarged(task: Task) -> bool:
    """Whether a succeeded task still has the first version of a picture that its recipe enlarges later."""
    late = _recipe(Parameters.from_json(task.params)).late
    return late and task.images.filter(width=task.width, height=task.height).exists()


def _run_stage(stage: str, task_text: str, work: Callable[[Task, str], None]) -> None:
    """Take the lease, work; a fault gives the stage back for a later try, the last one fails the task."""
    task_id, owner = UUID(task_text), f"{socket.gethostname()}:{uuid.uuid4().hex[:8]}"
    task = lifecycle.take_stage(task_id, stage, owner, settings.STAGE_SECONDS)
    if task is None:
        return
    _guarded(stage, task, owner, work)


def _guarded(stage: str, task: Task, owner: str, work: Callable[[Task, str], None]) -> None:
    try:
        with metrics.timed_stage(stage):
            work(task, owner)
    except checking.PictureRefused as refused:
        _after_fault(task, stage, owner, refused)
    except Exception as error:
        _log.exception("stage failed", extra={"task_id": str(task.id), "stage": stage})
        _after_fault(task, stage, owner, error)


def _after_fault(task: Task, stage: str, owner: str, error: Exception) -> None:
    if isinstance(error, checking.PictureRefused):
        if checking.refuse(task, error):
            clear_raw(task)
        return
    tries = task.stage_attempts
    if isinstance(error, PostprocessingError) and error.callers_fault:  # the same request would fail again
        lifecycle.fail(task.id, code=error.code, message=str(error))
        return
    if tries >= settings.STAGE_MAX_ATTEMPTS and stage != "notify":
        reason = f"{stage} failed {tries} times; the last time: {type(error).__name__}: {error}"
        lifecycle.fail(task.id, code=f"{stage}_failed", message=reason)
        return
    wait = RETRY_AFTER_S[min(tries, len(RETRY_AFTER_S)) - 1]
    next_at = timezone.now() + timedelta(seconds=wait)
    lifecycle.release_stage(task.id, owner=owner, next_at=next_at, reason=f"{stage}: {type(error).__name__}: {error}")


def _postprocess(task: Task, owner: str) -> None:
    """Its pictures, together with those of waiting tasks that ask for the same. A fault stays with the task it came
    from: after one, those that are not done are worked on alone.
    """
    group = [task, *_mates(task, owner)]
    left = _process_together(group, owner) if len(group) > 1 else group
    for mate in left:
        if mate.pk != task.pk:
            _guarded("postprocess", mate, owner, _process)
    if task in left:
        _process(task, owner)


def _mates(task: Task, owner: str) -> list[Task]:
    """Leases on waiting tasks, so many that the group stays quick: a lone task is never kept waiting for mates."""
    parameters = Parameters.from_json(task.params)
    upscale = _recipe(parameters).first_version().upscale
    pixels = task.width * task.height * parameters.num_images * (upscale.scale**2 if upscale else 1)
    room = min(settings.POSTPROCESS_GROUP, GROUP_PIXELS // pixels) - 1
    if room < 1:
        return []
    return lifecycle.take_mates(task, "postprocess", owner, settings.STAGE_SECONDS, room)


def _process_together(group: list[Task], owner: str) -> list[Task]:
    """Tasks of one recipe and size as one batch; those that a fault left undone."""
    left = list(group)
    try:
        recipe = _recipe(Parameters.from_json(group[0].params)).first_version()
        files = _finish(group, _checked_pictures(group), recipe)
        for task in group:
            _keep(get_store("raw"), task, list(itertools.islice(files, task.params["num_images"])))
            lifecycle.mark_processed(task.id, owner=owner)
            left.remove(task)
            if task is not group[0]:  # the first one's chain of messages goes on by itself
                handover.send_stages(str(task.id), handover.STAGES[1:])
    except Exception:
        _log.exception("a group failed; %d of %d go on alone", len(left), len(group))
    return left


def _process(task: Task, owner: str) -> None:
    recipe = _recipe(Parameters.from_json(task.params)).first_version()
    _keep(get_store("raw"), task, list(_finish([task], _checked_pictures([task]), recipe)))
    lifecycle.mark_processed(task.id, owner=owner)


def _upload(task: Task, owner: str) -> None:
    source, target = get_store("raw"), get_store("images")

    def move(key: str) -> None:
        if source.exists(key):
            target.put(key, source.read(key))
        elif not target.exists(key):  # neither waiting nor uploaded by an earlier run of this stage
            raise FileNotFoundError(f"{key} is in neither store")

    _at_once(move, _stored_keys(task))
    lifecycle.mark_stored(task.id, owner=owner)


def _notify(task: Task, owner: str) -> None:
    with transaction.atomic():
        if lifecycle.mark_succeeded(task.id, owner=owner):
            loras.count_use(Parameters.from_json(task.params))
            webhooks.write_delivery(task.id)
            transaction.on_commit(lambda: metrics.note_success(task))
    _note_time_after_gpu(task)
    for delivery_id in Delivery.objects.filter(task=task).values_list("id", flat=True):
        webhooks.send(delivery_id)
    clear_raw(task, but_lossless=_recipe(Parameters.from_json(task.params)).late)
    if is_to_be_enlarged(task):
        current_app.send_task("enlarge", (str(task.id),), queue="cpu")


def _note_time_after_gpu(task: Task) -> None:
    """For the estimates, which may do without."""
    if task.generated_at is None:
        return
    try:
        estimates.note({"after": (timezone.now() - task.generated_at).total_seconds()})
    except RedisError as error:
        _log.warning("time after the GPU not noted: %s", error)


def _enlarge(task: Task) -> None:
    """The whole recipe, straight into the images store; then the rows point at the new files.

    Addresses of the first version stay good until they expire: its objects are kept as long as the day's others.
    """
    files = list(_finish([task], _raw_pictures(task), _recipe(Parameters.from_json(task.params))))
    _keep(get_store("images"), task, files)
    caches.tasks().forget(str(task.id))
    events.publish(task.id, "updated", {"width": files[0].original.width, "height": files[0].original.height})
    clear_raw(task)


def clear_raw(task: Task, *, but_lossless: bool = False) -> None:
    """Delete what the raw store holds of a task that has ended; `but_lossless` keeps the pictures of the engine."""
    for key in _stored_keys(task):
        get_store("raw").delete(key)
    if not but_lossless:
        raw.delete_task(task.id)


def _recipe(parameters: Parameters) -> Recipe:
    asked = Recipe.from_json(dict(parameters.postprocess), dict(parameters.style_tone))
    return asked.marked(parameters.plan_watermark)


def _finish(group: Sequence[Task], pictures: Sequence[np.ndarray], recipe: Recipe) -> Iterator[Finished]:
    """The files of tasks that share a recipe, in their order."""
    notes = [note for task in group for note in _notes(task)]
    return finish(pictures, recipe, notes, SuperResConfig(Path(settings.SUPERRES_DIR)), signer=_signer())


def _signer() -> SignerConfig | None:
    if not settings.C2PA_CERTIFICATE:
        return None
    files = Path(settings.C2PA_CERTIFICATE), Path(settings.C2PA_KEY)
    return SignerConfig(*files, settings.C2PA_ALGORITHM, settings.C2PA_TIMESTAMP_URL)


def _notes(task: Task) -> list[Notes]:
    """What is written into each file about how it was made."""
    parameters = Parameters.from_json(task.params)
    return [
        Notes(
            prompt=parameters.text,
            negative_prompt=parameters.negative_text,
            steps=parameters.steps,
            sampler=parameters.sampler,
            cfg_scale=parameters.cfg_scale,
            seed=parameters.seed_of(index),
            width=parameters.width,
            height=parameters.height,
            model=task.model_key,
            edited=bool(parameters.image_key),
        )
        for index in range(parameters.num_images)
    ]


def _checked_pictures(group: Sequence[Task]) -> list[np.ndarray]:
    """The lossless pictures of these tasks, once the content policy has looked at them. Raises
    checking.PictureRefused.
    """
    found: list[np.ndarray] = []
    for task in group:
        pictures = _raw_pictures(task)
        checking.look(Parameters.from_json(task.params), pictures)
        found += pictures
    return found


def _raw_pictures(task: Task) -> list[np.ndarray]:
    """The lossless pictures as uint8 [H, W, 3] RGB."""
    return [_raw_picture(task, index) for index in range(task.params["num_images"])]


def _raw_picture(task: Task, index: int) -> np.ndarray:
    data = np.frombuffer(raw.read(keys.raw_key(task.id, index, task.attempt)), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise ValueError(f"raw picture {index} of attempt {task.attempt} is damaged")
    return picture


def _keep(store: Store, task: Task, files: Sequence[Finished]) -> None:
    """Write originals and thumbnails under their final keys, then the rows that name them."""
    parameters = Parameters.from_json(task.params)
    rows = [_row(task, index, parameters.seed_of(index), file.original) for index, file in enumerate(files)]
    objects = [(row.key, file.original.data) for row, file in zip(rows, files, strict=True)]
    objects += [(row.thumbnail_key, file.thumbnail.data) for row, file in zip(rows, files, strict=True)]
    _at_once(lambda item: store.put(*item), objects)
    told = ("key", "thumbnail_key", "format", "content_type", "width", "height", "bytes", "sha256")
    Image.objects.bulk_create(rows, update_conflicts=True, unique_fields=["id"], update_fields=told)


def _row(task: Task, index: int, seed: int, encoded: Encoded) -> Image:
    key = keys.image_key(task.id, index, encoded.sha256, encoded.content_type)
    return Image(
        id=image_id(task.id, index),
        task=task,
        index=index,
        seed=seed,
        key=key,
        thumbnail_key=keys.variant_key(key, "thumbs"),
        format=keys.parse(key).extension,
        content_type=encoded.content_type,
        width=encoded.width,
        height=encoded.height,
        bytes=len(encoded.data),
        sha256=encoded.sha256,
    )


def _stored_keys(task: Task) -> list[str]:
    return [key for image in task.images.all() for key in (image.key, image.thumbnail_key)]


def _at_once(work: Callable[[Any], object], items: Sequence[Any]) -> None:
    """Do it for all items side by side: each waits for a disk or a distant store, not for the processor."""
    with ThreadPoolExecutor(min(8, max(1, len(items)))) as threads:
        list(threads.map(work, items))
