"""What happens to a task after the GPU, as Celery functions on the queues cpu, io and late.

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
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeGuard
from uuid import UUID

import cv2
import numpy as np
from celery import current_app, shared_task
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from redis.exceptions import RedisError

from generation import estimates, events, late, lifecycle, loras, metrics, webhooks
from generation.models import Delivery, Image, Task
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
TELL_EVERY_S: Final = 0.5  # between two events of one enlargement
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
    task = Task.objects.filter(pk=UUID(task_id), deleted_at=None).first()
    if task is not None and is_to_be_enlarged(task):
        _run_stage("enlarge", task_id, _enlarge)


def is_to_be_enlarged(task: Task) -> bool:
    """Whether a succeeded task still has the first version of a picture that its recipe enlarges later."""
    return late.is_to_come(task, list(task.images.all()))


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
    if stage == "enlarge" and (tries >= settings.STAGE_MAX_ATTEMPTS or _is_callers(error)):
        warning = f"The larger version could not be made: {error}"
        lifecycle.end_late_step(task.id, owner=owner, warning=warning[:300])
        events.publish(task.id, "updated", {"width": task.width, "height": task.height})
        clear_raw(task)
        return
    if _is_callers(error):  # the same request would fail again
        lifecycle.fail(task.id, code=error.code, message=str(error))
        return
    if tries >= settings.STAGE_MAX_ATTEMPTS and stage != "notify":
        reason = f"{stage} failed {tries} times; the last time: {type(error).__name__}: {error}"
        lifecycle.fail(task.id, code=f"{stage}_failed", message=reason)
        return
    wait = RETRY_AFTER_S[min(tries, len(RETRY_AFTER_S)) - 1]
    next_at = timezone.now() + timedelta(seconds=wait)
    lifecycle.release_stage(task.id, owner=owner, next_at=next_at, reason=f"{stage}: {type(error).__name__}: {error}")


def _is_callers(error: Exception) -> TypeGuard[PostprocessingError]:
    return isinstance(error, PostprocessingError) and error.callers_fault


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
        files = _finish(group, owner)
        for task in group:
            _keep(get_store("raw"), task, dict(enumerate(itertools.islice(files, task.params["num_images"]))))
            lifecycle.mark_processed(task.id, owner=owner)
            left.remove(task)
            if task is not group[0]:  # the first one's chain of messages goes on by itself
                handover.send_stages(str(task.id), handover.STAGES[1:])
    except Exception:
        _log.exception("a group failed; %d of %d go on alone", len(left), len(group))
    return left


def _process(task: Task, owner: str) -> None:
    _keep(get_store("raw"), task, dict(enumerate(_finish([task], owner))))
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
    if late.first_versions(task, list(task.images.all())):
        current_app.send_task("enlarge", (str(task.id),), queue=handover.LATE)


def _note_time_after_gpu(task: Task) -> None:
    """For the estimates, which may do without."""
    if task.generated_at is None:
        return
    try:
        estimates.note({"after": (timezone.now() - task.generated_at).total_seconds()})
    except RedisError as error:
        _log.warning("time after the GPU not noted: %s", error)


def _enlarge(task: Task, owner: str) -> None:
    """The whole recipe, straight into the images store; then the rows point at the new files, picture by picture.

    Addresses of the first version stay good until they expire: its objects are kept as long as the day's others.
    """
    size = {"width": task.width, "height": task.height}
    left = [image.index for image in late.first_versions(task, list(task.images.order_by("index")))]
    for index, file in zip(left, _finish([task], owner, whole=True, only=left), strict=True):
        _keep(get_store("images"), task, {index: file})
        size = {"width": file.original.width, "height": file.original.height}
    if lifecycle.end_late_step(task.id, owner=owner):
        events.publish(task.id, "updated", size)
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


def _finish(
    group: Sequence[Task], owner: str, *, whole: bool = False, only: Sequence[int] | None = None
) -> Iterator[Finished]:
    """The files of tasks that share a recipe, in their order: of the first version, once the content policy has looked
    at the pictures, or of the `whole` recipe; of all pictures or `only` some. Leases are renewed while a network works.
    Raises checking.PictureRefused.
    """
    recipe = _recipe(Parameters.from_json(group[0].params))
    pictures, notes = [], []
    for task in group:
        chosen = range(task.params["num_images"]) if only is None else only
        own = [_raw_picture(task, index) for index in chosen]
        if not whole:
            checking.look(Parameters.from_json(task.params), own)
        pictures += own
        notes += [_note(task, index) for index in chosen]
    config, pulse = SuperResConfig(Path(settings.SUPERRES_DIR)), _Pulse(group, owner)
    return finish(pictures, recipe if whole else recipe.first_version(), notes, config, pulse, signer=_signer())


class _Pulse:
    """Called with the done part of an enlargement: keeps the leases, and tells who watches, now and then."""

    def __init__(self, group: Sequence[Task], owner: str) -> None:
        self._group, self._owner = group, owner
        self._told = self._renewed = time.monotonic()

    def __call__(self, part: float) -> None:
        now = time.monotonic()
        if now - self._renewed > settings.STAGE_SECONDS / 4:
            self._renewed = now
            if not lifecycle.renew_stage(self._owner, settings.STAGE_SECONDS):
                raise TimeoutError("the lease ran out: somebody else works on it")
        if now - self._told > TELL_EVERY_S or part >= 1:
            self._told = now
            for task in self._group:
                events.publish(task.id, "enlarging", {"progress": round(100 * part)})


def _signer() -> SignerConfig | None:
    if not settings.C2PA_CERTIFICATE:
        return None
    files = Path(settings.C2PA_CERTIFICATE), Path(settings.C2PA_KEY)
    return SignerConfig(*files, settings.C2PA_ALGORITHM, settings.C2PA_TIMESTAMP_URL)


def _note(task: Task, index: int) -> Notes:
    """What is written into the file about how it was made."""
    parameters = Parameters.from_json(task.params)
    return Notes(
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


def _raw_picture(task: Task, index: int) -> np.ndarray:
    """The lossless picture as uint8 [H, W, 3] RGB."""
    data = np.frombuffer(raw.read(keys.raw_key(task.id, index, task.attempt)), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise ValueError(f"raw picture {index} of attempt {task.attempt} is damaged")
    return picture


def _keep(store: Store, task: Task, files: Mapping[int, Finished]) -> None:
    """Write originals and thumbnails under their final keys, then the rows that name them. Durably, in the raw store
    too: a processed task has no way back to this stage, so a file that a power cut took would fail it.
    """
    parameters = Parameters.from_json(task.params)
    rows = [_row(task, index, parameters.seed_of(index), file.original) for index, file in files.items()]
    objects = [(row.key, file.original.data) for row, file in zip(rows, files.values(), strict=True)]
    objects += [(row.thumbnail_key, file.thumbnail.data) for row, file in zip(rows, files.values(), strict=True)]
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
