"""From a task's row to what the engine takes: a SampleRequest for each picture, and the description of its model."""

import time
from pathlib import Path

import cv2
import numpy as np
from django.conf import settings

from generation.catalogue.models import ImageModel
from generation.catalogue.parameters import LoraChoice, Parameters
from generation.tasks.models import Task
from generation.tasks.reasons import Code, codes
from storage.store import get_store
from workers.engine.requests import LoraUse, SampleId, SampleRequest
from workers.engine.spec import ModelSpec

PREVIEW_EVERY = 5  # steps between previews, where a request asks for them


def spec_of(model: ImageModel) -> ModelSpec:
    """How the engine loads this row's model; a relative source lies below MODELS_DIR."""
    return ModelSpec(
        name=model.name,
        revision=model.revision,
        family=model.family,
        source=_located(model.source),
        precision=model.precision if model.precision != "auto" else _precision(),
        options=dict(model.options),
    )


def samples_of(task: Task, *, alone: bool) -> tuple[SampleRequest, ...]:
    """The samples of a claimed task, its input pictures read from the store.

    The model is the row's present revision: weights that were replaced while the task waited are gone. Raises
    storage.errors.StorageError when an input picture cannot be read, ValueError when it is no picture.
    """
    wanted = task.parameters
    image, mask, control = (_picture(wanted.image_key), _mask(wanted.mask_key), _picture(wanted.control_key))
    arrived = time.monotonic()
    returned = codes(task.history).count(Code.PAUSED_MEMORY)
    return tuple(
        SampleRequest(
            sample_id=SampleId(str(task.id), index),
            task_id=str(task.id),
            priority=task.priority,
            model=task.model.key,
            kind=_engine_kind(wanted),
            prompt=wanted.text,
            negative_prompt=wanted.negative_text,
            width=wanted.width,
            height=wanted.height,
            steps=wanted.steps,
            cfg_scale=wanted.cfg_scale,
            sampler=wanted.sampler,
            seed=wanted.seed_of(index),
            strength=wanted.strength,
            image=image,
            mask=mask,
            control_image=control,
            control_type=wanted.control_type or None,
            control_ready=wanted.control_ready,
            control_scale=wanted.control_scale,
            control_start=wanted.control_start,
            control_end=wanted.control_end,
            loras=tuple(map(_lora, wanted.loras)),
            deterministic=wanted.deterministic,
            alone=alone,
            arrived=arrived,
            preview_every=PREVIEW_EVERY if wanted.preview else 0,
            cacheable=wanted.cache,
            returned=returned,
        )
        for index in range(wanted.num_images)
    )


def _engine_kind(wanted: Parameters) -> str:
    """A control picture may stand beside an input picture, and that beside a mask."""
    if wanted.kind != "controlnet" or not wanted.image_key:
        return wanted.kind
    return "controlnet_inpaint" if wanted.mask_key else "controlnet_img2img"


def _precision() -> str:
    return settings.GPU_PRECISION


def _located(source: str) -> str:
    if "://" in source:
        return source
    return str(Path(settings.MODELS_DIR, source))  # an absolute source stays as it is


def _lora(choice: LoraChoice) -> LoraUse:
    return LoraUse(choice.sha256, _located(choice.source), choice.weight)


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
