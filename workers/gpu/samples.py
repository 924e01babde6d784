"""From a task's row to what the engine takes: a SampleRequest for each picture, and the description of its model."""

import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from django.conf import settings

from generation.catalogue.model_files import located
from generation.catalogue.models import ImageModel
from generation.tasks.models import Task
from generation.tasks.reasons import Code, codes
from storage.store import get_store, lora_files
from workers.engine.prompt_weights import parse
from workers.engine.requests import LoraUse, SampleId, SampleRequest, TaskBatch
from workers.engine.spec import ModelSpec, RuntimeConfig

PREVIEW_EVERY = 5  # steps between previews, where a request asks for them


def spec_of(model: ImageModel) -> ModelSpec:
    """How the engine loads this row's model; a relative source lies below MODELS_DIR, or ships."""
    return ModelSpec(
        name=model.name,
        revision=model.revision,
        family=model.family,
        source=_located(model.source),
        precision=model.precision if model.precision != "auto" else settings.GPU_PRECISION,
        options=dict(model.options),
        runtime=RuntimeConfig(
            default=settings.GPU_RUNTIME,
            threads=settings.TORCH_THREADS,
            decoder_threads=int(settings.DECODER_THREADS != 0),
            choices=Path(settings.RUNTIMES_FILE),
        ),
    )


def samples_of(task: Task, *, alone: bool) -> tuple[SampleRequest, ...]:
    """The samples of a claimed task, its input pictures read from the store.

    The model is the row's present revision: weights that were replaced while the task waited are gone. Raises
    storage.errors.StorageError when an input picture cannot be read, ValueError when it is no picture.
    """
    parameters = task.parameters
    files = lora_files()
    for prompt in (parameters.text, parameters.negative_text):
        parse(prompt)  # in this thread: the engine's finds it read
    first = SampleRequest(
        sample_id=SampleId(str(task.id), 0),
        parameters=parameters,
        model=task.drawing_model.key,
        priority=task.priority,
        image=_picture(parameters.image_key),
        mask=_mask(parameters.mask_key),
        control_image=_picture(parameters.control_key),
        loras=tuple(LoraUse(lora.sha256, _located(files.path(lora.source)), lora.weight) for lora in parameters.loras),
        batch=TaskBatch(str(task.batch_id), task.batch.batch_size) if task.batch and task.batch.batch_size else None,
        alone=alone,
        arrived=time.monotonic(),
        preview_every=PREVIEW_EVERY if parameters.preview else 0,
        returned=codes(task.history).count(Code.PAUSED_MEMORY),
    )
    others = (replace(first, sample_id=SampleId(str(task.id), index)) for index in range(1, parameters.num_images))
    return (first, *others)


def _located(source: str) -> str:
    if "://" in source:
        return source
    return str(located(source))


def _decoded(key: str, flag: int) -> np.ndarray | None:
    if not key:
        return None
    decoded = cv2.imdecode(np.frombuffer(get_store("images").read(key), np.uint8), flag)
    if decoded is None:
        raise ValueError(f"{key} is not a picture that can be decoded")
    return decoded


def _picture(key: str) -> np.ndarray | None:
    """uint8 [H, W, 3] RGB."""
    decoded = _decoded(key, cv2.IMREAD_COLOR)
    return None if decoded is None else cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def _mask(key: str) -> np.ndarray | None:
    """uint8 [H, W], 255 where the picture is repainted."""
    return _decoded(key, cv2.IMREAD_GRAYSCALE)
