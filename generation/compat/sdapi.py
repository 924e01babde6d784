"""`/sdapi/v1/*`: AUTOMATIC1111's API. What there is one of in A1111 (the running job, the chosen model) each key has
for itself here.
"""

import logging
from typing import Any, ClassVar, Final

import redis
from django.db.models import QuerySet
from rest_framework.response import Response

from generation.api.authentication import KeyRequest
from generation.catalogue import loras, snapshot
from generation.catalogue.kinds import of_pictures
from generation.catalogue.models import Lora
from generation.catalogue.samplers import SAMPLERS
from generation.compat import sdapi_form as form
from generation.compat.base import CompatView
from generation.tasks import cancel, estimates
from generation.tasks.models import OPEN, Status, Task
from imagegenx_site import redis_clients
from imagegenx_site.errors import ApiError, InvalidRequest

_CHOICE_S: Final = 30 * 86400
_FIELDS: Final = {"text": "prompt", "image": "init_images[0]", "params.resolution": "width, height"}
_log = logging.getLogger(__name__)
# What programs ask for at their start, and what there is of it here.
_FIXED: Final[dict[str, Any]] = {
    "upscalers": [{"name": "None", "model_name": None, "model_path": None, "model_url": None, "scale": 1}],
    "latent-upscale-modes": [],
    "sd-vae": [],
    "embeddings": {"loaded": {}, "skipped": {}},
    "scripts": {"txt2img": [], "img2img": []},
    "cmd-flags": {},
    "memory": {"ram": {}, "cuda": {}},
    "schedulers": [{"name": name, "label": name.capitalize()} for name in ("automatic", "karras")],
}


class SdapiView(CompatView):
    """Errors as A1111's server has them; keys also as HTTP Basic, the only way that its programs know."""

    challenge: ClassVar[str] = 'Basic realm="ImageGenX"'

    def failure(self, error: ApiError) -> dict[str, Any]:
        detail = error.message
        if isinstance(error, InvalidRequest):
            detail = " ".join(fault.sentence(_FIELDS) for fault in error.faults)
        return {"error": error.code, "detail": detail, "body": "", "errors": detail}


class Txt2ImgView(SdapiView):
    """A text to pictures."""

    def post(self, request: KeyRequest) -> Response:
        """Answers when the pictures are finished."""
        asked = _object(request)
        kind = of_pictures(())
        body = form.request_body(asked, snapshot.current(), kind.name, chosen_model(request))
        return self.generate(request, body, kind, lambda task, images: form.answer(task, images, asked))


class Img2ImgView(SdapiView):
    """A picture, and a mask or none, to pictures."""

    def post(self, request: KeyRequest) -> Response:
        """Answers when the pictures are finished."""
        asked = _object(request)
        kind = of_pictures(("image", "mask") if asked.get("mask") else ("image",))
        body = form.request_body(asked, snapshot.current(), kind.name, chosen_model(request))
        body = form.with_pictures(asked, body)
        return self.generate(request, body, kind, lambda task, images: form.answer(task, images, asked))


class ProgressView(SdapiView):
    """How far the key's oldest open task is."""

    def get(self, request: KeyRequest) -> Response:
        """All zero when nothing is open: that is how programs see that their job is done."""
        task = _open_tasks(request).order_by("id").first()
        running = task is not None and task.status != Status.QUEUED
        steps = task.parameters.steps if task else 0
        done = round(task.progress / 100 * steps) if task else 0
        state = {"job": task.public_id if task else "", "job_count": 1 if task else 0, "job_no": 0}
        state |= {"sampling_step": done, "sampling_steps": steps, "skipped": False, "interrupted": False}
        return Response(
            {
                "progress": max(0.01, min(task.progress, 99) / 100) if task and running else 0.0,
                "eta_relative": estimates.outlook(task).seconds if task else 0.0,
                "state": state,
                "current_image": None,
                "textinfo": "waiting" if task and not running else None,
            }
        )


class InterruptView(SdapiView):
    """`interrupt` and `skip`: end what the key has under way."""

    def post(self, request: KeyRequest) -> Response:
        """An empty object, as programs expect."""
        for task in _open_tasks(request):
            cancel.cancel_task(task)
        return Response({})


class OptionsView(SdapiView):
    """The settings that programs read and write: of them, the model."""

    scopes: ClassVar = {"GET": "read", "POST": "generate"}

    def get(self, request: KeyRequest) -> Response:
        """The model that the key's next picture is made with."""
        model = form.model_titled(snapshot.current(), chosen_model(request), of_pictures(()).name)
        title = model.title if model else None
        return Response({"sd_model_checkpoint": title, "sd_vae": "Automatic", "CLIP_stop_at_last_layers": 1})

    def post(self, request: KeyRequest) -> Response:
        """Choose a model; everything else is taken and has no effect."""
        title = _object(request).get("sd_model_checkpoint")
        if isinstance(title, str) and title:
            try:
                redis_clients.text_client().set(f"gx:sdapi:{request.auth.pk}", title[:200], ex=_CHOICE_S)
            except redis.RedisError as error:
                _log.warning("the chosen model is not kept: %s", error)
        return Response({})


class SdModelsView(SdapiView):
    """The models."""

    def get(self, request: KeyRequest) -> Response:
        """Titles are what `options` and `override_settings` take."""
        found = snapshot.current().models
        return Response(
            [
                {"title": model.title, "model_name": model.name, "hash": None, "sha256": None, "filename": model.key,
                 "config": None}
                for model in found
            ]
        )  # fmt: skip


class SamplersView(SdapiView):
    """The samplers."""

    def get(self, request: KeyRequest) -> Response:
        """By the names that A1111 gives them."""
        found = SAMPLERS.values()
        return Response([{"name": one.a1111, "aliases": [one.name, *one.aliases], "options": {}} for one in found])


class SdLorasView(SdapiView):
    """The LoRAs that the key may use."""

    def get(self, request: KeyRequest) -> Response:
        """Names as `<lora:NAME:1>` in a prompt takes them."""
        rows = (
            loras.visible(request.user, request.auth.effective_plan)
            .filter(state=Lora.State.ACTIVE)
            .order_by("name", "-version")[:1000]
        )
        return Response(
            [{"name": str(row), "alias": row.title or row.name, "path": "", "metadata": {}} for row in rows]
        )


class FixedView(SdapiView):
    """Lists that programs read at their start."""

    name: ClassVar[str] = ""

    def get(self, request: KeyRequest) -> Response:
        """What there is of it here."""
        return Response(_FIXED[self.name])


FIXED_NAMES: Final = tuple(_FIXED)


def chosen_model(request: KeyRequest) -> str:
    """The title that the key has chosen; empty for none."""
    try:
        return redis_clients.text_client().get(f"gx:sdapi:{request.auth.pk}") or ""
    except redis.RedisError:
        return ""


def _open_tasks(request: KeyRequest) -> QuerySet[Task]:
    return Task.objects.filter(user=request.user, api_key=request.auth, status__in=OPEN, deleted_at=None)


def _object(request: KeyRequest) -> dict[str, Any]:
    return request.data if isinstance(request.data, dict) else {}
