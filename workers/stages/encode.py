"""From the lossless pictures of the engine to encoded files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from django.conf import settings

from generation.catalogue.file_notes import notes_of
from generation.tasks.models import Task
from postprocessing.pipeline import ProcessedPicture, process_each, untimed
from postprocessing.provenance import SignerConfig
from postprocessing.recipe import Recipe
from postprocessing.superres import SuperResConfig
from storage import keys, raw
from storage.store import get_store
from workers.stages.lease import LeaseRenewer
from workers.stages.step_times import StepTimes

Lossless = Mapping[int, np.ndarray]  # pictures of one task by number: uint8 [H, W, 3] RGB


def read_lossless(task: Task, numbers: Iterable[int]) -> Lossless:
    """What the engine made of the task, from the raw store; of a task without a model the picture that came with it.
    Raises ValueError for a damaged file.
    """
    return {number: _decoded(task, number) for number in numbers}


def _decoded(task: Task, number: int) -> np.ndarray:
    if task.model_id is None:
        stored = get_store("images").read(task.parameters.image_key)
    else:
        stored = raw.read(keys.raw_key(task.id, number, task.attempt))
    picture = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise ValueError(f"raw picture {number} of attempt {task.attempt} is damaged")
    return picture


def process_pictures(
    group: Sequence[tuple[Task, Lossless]], recipe: Recipe, times: StepTimes | None = None
) -> Iterator[ProcessedPicture]:
    """The files of these tasks in their order, made as one batch. Their leases are renewed while a network works.
    `times` learns how long each step takes. Raises PostprocessingError, TimeoutError.
    """
    pictures = [picture for _, own in group for picture in own.values()]
    notes = [notes_of(task.parameters, task.model_key, number) for task, own in group for number in own]
    renewer = LeaseRenewer([task for task, _ in group])
    timer = times.timed if times else untimed
    return process_each(pictures, recipe, notes, _networks(), renewer, signer=_signer(), timer=timer)


def _networks() -> SuperResConfig:
    """Networks for enlargement that were pulled or imported come before those that ship."""
    return SuperResConfig(Path(settings.SUPERRES_DIR), preferred=Path(settings.MODELS_DIR, "superres"))


def _signer() -> SignerConfig | None:
    if not settings.C2PA_CERTIFICATE:
        return None
    files = Path(settings.C2PA_CERTIFICATE), Path(settings.C2PA_KEY)
    return SignerConfig(*files, settings.C2PA_ALGORITHM, settings.C2PA_TIMESTAMP_URL)
