"""The task as clients see it: one body for the answer to a submission, to a poll, in events and in webhooks."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from django.urls import reverse

from generation.tasks import enlargement
from generation.tasks.estimates import Outlook
from generation.tasks.models import Image, Status, Task
from imagegenx_site.ids import public
from storage.drivers import FILES_PATH, signed_path
from storage.openings import openings
from storage.store import get_store

# What clients are told of the inner states. `canceled` is the spelling of the APIs that integrators know.
PUBLIC_STATUS = {
    Status.QUEUED: "queued",
    Status.RUNNING: "running",
    Status.GENERATED: "running",
    Status.PROCESSED: "running",
    Status.STORED: "running",
    Status.SUCCEEDED: "succeeded",
    Status.FAILED: "failed",
    Status.CANCELLED: "canceled",
    Status.EXPIRED: "expired",
}


def task_body(task: Task, images: Sequence[Image], *, base_url: str, outlook: Outlook | None = None) -> dict[str, Any]:
    """The task. `images` are its pictures (none before it succeeded); without `outlook` its place and the time it will
    take are null.

    `base_url` begins the links; empty makes them relative.
    """
    done = task.status == Status.SUCCEEDED
    outputs = [_output(image, base_url) for image in images] if done else []
    query_url = base_url + reverse("task", args=[task.public_id])
    return {
        "task_id": task.public_id,
        "batch_id": public(task.batch_id, "bat") if task.batch_id else None,
        "kind": task.kind,
        "status": PUBLIC_STATUS[Status(task.status)],
        "progress": 100 if done else min(task.progress, 99),
        "position": outlook.position if outlook else None,
        "estimated_time": 0.0 if task.terminal else outlook and outlook.seconds,
        "query_url": query_url,
        "temp_url": outputs[0]["url"] if outputs else None,
        "outputs": outputs,
        "enlarging": enlargement.is_due(task, images),
        "input": input_body(task.text, task.model_key, task.params),
        "priority": task.priority,
        "attempts": task.attempt,
        "warnings": task.warnings,
        "error": {"code": task.error_code, "message": task.error_message} if task.error_code else None,
        "created_at": _iso(task.created_at),
        "started_at": _iso(task.started_at),
        "finished_at": _iso(task.finished_at),
        "expires_at": _iso(task.expires_at),
    }


def _output(image: Image, base_url: str) -> dict[str, Any]:
    return {
        "index": image.index,
        "url": original_url(image, base_url),
        "thumbnail_url": image_url(image.thumbnail_key, base_url),
        "width": image.width,
        "height": image.height,
        "format": image.format,
        "bytes": image.bytes,
        "sha256": image.sha256,
        "seed": image.seed,
    }


def original_url(image: Image, base_url: str) -> str:
    """The address of an original. Of an archived one it is this server's, which asks for its return and answers 202."""
    if image.archived_at:
        return base_url + signed_path(FILES_PATH + image.key, settings.URL_SECONDS)
    return image_url(image.key, base_url)


def image_url(key: str, base_url: str) -> str:
    """An address of a stored picture that needs no key and expires after URL_SECONDS."""
    address = get_store("images").url(key, settings.URL_SECONDS)
    if address.startswith("/"):
        return base_url + address
    openings().note(key)  # the store will answer it, out of our sight
    return address


def input_body(text: str, model_key: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as they were decided, so that the same request can be sent again."""
    names = ("steps", "cfg_scale", "sampler", "seed", "num_images", "style", "postprocess")
    shown = {name: params[name] for name in (*names, *_OF_KIND.get(params["kind"], ())) if name in params}
    sides = f"{params['width']}x{params['height']}"
    loras = [{"name": lora["name"], "weight": lora["weight"]} for lora in params.get("loras", ())]
    lowered = {"lowered_from": params["lowered_from"]} if params.get("lowered_from") else {}
    return {"text": text, "model": model_key, "resolution": sides, **lowered, "loras": loras, **shown}


_OF_KIND = {
    "img2img": ("strength",),
    "inpaint": ("strength",),
    "controlnet": ("control_type", "control_scale", "control_start", "control_end", "control_ready", "strength"),
}


def _iso(moment: Any) -> str | None:
    return moment.isoformat(timespec="milliseconds") if moment else None
