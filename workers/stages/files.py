"""From raw pictures to encoded files and their rows, for the stages that make them."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from django.conf import settings

from generation.catalogue.parameters import Parameters
from generation.tasks import events, states
from generation.tasks.models import Image, Task
from imagegenx_site.ids import image_id
from postprocessing.formats import Encoded
from postprocessing.metadata import Notes
from postprocessing.pipeline import ProcessedPicture, process_each
from postprocessing.provenance import SignerConfig
from postprocessing.recipe import Recipe
from postprocessing.superres import SuperResConfig
from storage import keys, raw
from storage.store import Store, get_store
from workers.stages import picture_check

TELL_EVERY_S: Final = 0.5  # between two events of one enlargement


def clear_raw(task: Task, *, but_lossless: bool = False) -> None:
    """Delete what the raw store holds of a task that has ended; `but_lossless` keeps the pictures of the engine."""
    for key in stored_keys(task):
        get_store("raw").delete(key)
    if not but_lossless:
        raw.delete_task(task.id)


def recipe_of(parameters: Parameters) -> Recipe:
    asked = Recipe.from_json(dict(parameters.postprocess), dict(parameters.style_tone))
    return asked.marked(parameters.plan_watermark)


def make_files(
    group: Sequence[Task], owner: str, *, whole: bool = False, only: Sequence[int] | None = None
) -> Iterator[ProcessedPicture]:
    """The files of tasks that share a recipe, in their order: of the first version, once the content policy has looked
    at the pictures, or of the `whole` recipe; of all pictures or `only` some. Leases are renewed while a network works.
    Raises checking.PictureRefused.
    """
    recipe = recipe_of(Parameters.from_json(group[0].params))
    pictures, notes = [], []
    for task in group:
        chosen = range(task.params["num_images"]) if only is None else only
        own = [_raw_picture(task, index) for index in chosen]
        if not whole:
            picture_check.look(Parameters.from_json(task.params), own)
        pictures += own
        notes += [_note(task, index) for index in chosen]
    config, pulse = SuperResConfig(Path(settings.SUPERRES_DIR)), _Pulse(group, owner)
    return process_each(pictures, recipe if whole else recipe.first_version(), notes, config, pulse, signer=_signer())


class _Pulse:
    """Called with the done part of an enlargement: keeps the leases, and tells who watches, now and then."""

    def __init__(self, group: Sequence[Task], owner: str) -> None:
        self._group, self._owner = group, owner
        self._told = self._renewed = time.monotonic()

    def __call__(self, part: float) -> None:
        now = time.monotonic()
        if now - self._renewed > settings.STAGE_SECONDS / 4:
            self._renewed = now
            if not states.renew_stage(self._owner, settings.STAGE_SECONDS):
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


def keep_files(store: Store, task: Task, files: Mapping[int, ProcessedPicture]) -> None:
    """Write originals and thumbnails under their final keys, then the rows that name them. Durably, in the raw store
    too: a processed task has no way back to this stage, so a file that a power cut took would fail it.
    """
    parameters = Parameters.from_json(task.params)
    rows = [_row(task, index, parameters.seed_of(index), file.original) for index, file in files.items()]
    objects = [(row.key, file.original.data) for row, file in zip(rows, files.values(), strict=True)]
    objects += [(row.thumbnail_key, file.thumbnail.data) for row, file in zip(rows, files.values(), strict=True)]
    in_parallel(lambda item: store.put(*item), objects)
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


def stored_keys(task: Task) -> list[str]:
    return [key for image in task.images.all() for key in (image.key, image.thumbnail_key)]


def in_parallel(work: Callable[[Any], object], items: Sequence[Any]) -> None:
    """Do it for all items side by side: each waits for a disk or a distant store, not for the processor."""
    with ThreadPoolExecutor(min(8, max(1, len(items)))) as threads:
        list(threads.map(work, items))
