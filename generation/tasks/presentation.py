"""The task as clients see it: one body for the answer to a submission, to a poll, in events and in webhooks."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NotRequired, TypedDict, cast

from django.conf import settings
from django.urls import reverse

from generation.catalogue.kinds import KINDS
from generation.tasks import enlargement
from generation.tasks.estimates import Outlook
from generation.tasks.models import Image, Status, Task
from imagegenx_site.ids import to_public
from imagegenx_site.schema import COMPONENT
from postprocessing.recipe import BLOCK
from storage.drivers import FILES_PATH, signed_path
from storage.openings import openings
from storage.store import get_store


def as_moment(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a text that is a time (RFC 3339)."""
    return {**schema, "format": "date-time"}


Moment = Annotated[str, as_moment]


def block_schema(_: object = None) -> dict[str, Any]:
    """The schema of a request's `postprocess` block."""
    return {**BLOCK.json_schema(), COMPONENT: "Postprocess", "description": "See docs/postprocessing.md."}


PublicStatus = Literal["queued", "running", "succeeded", "failed", "canceled", "expired"]
JointStatus = PublicStatus | Literal["partial"]  # of a batch
# `canceled` is the spelling of the APIs that integrators know.
PUBLIC_STATUS: Final[dict[Status, PublicStatus]] = {
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


def public_status(task: Task) -> PublicStatus:
    """The task's state in the word that clients read: `queued` also for one without a model that nobody has begun."""
    return "queued" if task.waits else PUBLIC_STATUS[Status(task.status)]


class LoraInput(TypedDict):
    name: str
    weight: float


class InputBody(TypedDict):
    """The parameters as they were decided, so that the same request can be sent again; kinds add their own."""

    text: str
    model: NotRequired[Annotated[str, "`name@revision`; of kinds that need one."]]
    translated_text: NotRequired[Annotated[str, "What the model reads instead, where it does not know the language."]]
    translated_negative_text: NotRequired[str]
    resolution: str
    lowered_from: NotRequired[Annotated[str, "The resolution asked for, where a surge made it smaller."]]
    loras: list[LoraInput]
    steps: NotRequired[int]
    cfg_scale: NotRequired[float]
    sampler: NotRequired[str]
    seed: NotRequired[int]
    num_images: NotRequired[int]
    style: NotRequired[str]
    postprocess: NotRequired[Annotated[dict[str, Any], block_schema]]


def with_options(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an input with every kind's own parameters."""
    own = {
        option.stored: option.value.json_schema() if option.default is not None else {}
        for kind in KINDS.values()
        for option in kind.options
        if option.stored
    }
    return {**schema, "properties": {**schema["properties"], **own}}


class OutputBody(TypedDict):
    index: int
    url: Annotated[str, "Needs no key, and expires."]
    thumbnail_url: str
    width: int
    height: int
    format: str
    bytes: int
    sha256: str
    seed: int
    mark: Annotated[Literal["approved", "rejected"] | None, "Of `POST /api/v1/image/marks`."]


class FailureBody(TypedDict):
    code: str
    message: str


class TaskBody(TypedDict):
    """The task in answers, events and webhooks."""

    task_id: Annotated[str, {"examples": ["img019aa2b3c4d57e8f9a0b1c2d3e4f5061"]}]
    batch_id: str | None
    kind: str
    status: PublicStatus
    progress: Annotated[int, {"minimum": 0, "maximum": 100}]
    position: Annotated[int | None, "Place among what waits; 1 comes next."]
    estimated_time: Annotated[float | None, "Seconds until it will probably end."]
    query_url: str
    temp_url: Annotated[str | None, "The first picture, once there is one."]
    outputs: list[OutputBody]
    enlarging: Annotated[bool, "Larger pictures will replace these (`upscale.late`)."]
    input: Annotated[InputBody, with_options]
    priority: int
    attempts: int
    warnings: list[str]
    error: FailureBody | None
    created_at: Moment | None
    started_at: Moment | None
    finished_at: Moment | None
    expires_at: Moment | None


def task_body(task: Task, images: Sequence[Image], *, base_url: str, outlook: Outlook | None = None) -> TaskBody:
    """The task. `images` are its pictures (none before it succeeded); without `outlook` its place and the time it will
    take are null.

    `base_url` begins the links; empty makes them relative.
    """
    done = task.status == Status.SUCCEEDED
    outputs = [_output(image, base_url) for image in images] if done else []
    query_url = base_url + reverse("task", args=[task.public_id])
    return {
        "task_id": task.public_id,
        "batch_id": to_public(task.batch_id, "bat") if task.batch_id else None,
        "kind": task.kind,
        "status": public_status(task),
        "progress": 100 if done else min(task.progress, 99),
        "position": outlook.position if outlook else None,
        "estimated_time": 0.0 if task.terminal else outlook.seconds if outlook else None,
        "query_url": query_url,
        "temp_url": outputs[0]["url"] if outputs else None,
        "outputs": outputs,
        "enlarging": enlargement.is_due(task, images),
        "input": input_body(task.text, task.model_key, task.params),
        "priority": task.priority,
        "attempts": task.attempt,
        "warnings": task.warnings,
        "error": failure_body(task),
        "created_at": _iso(task.created_at),
        "started_at": _iso(task.started_at),
        "finished_at": _iso(task.finished_at),
        "expires_at": _iso(task.expires_at),
    }


def failure_body(task: Task) -> FailureBody | None:
    """Why a task failed."""
    return {"code": task.error_code, "message": task.error_message} if task.error_code else None


def _output(image: Image, base_url: str) -> OutputBody:
    return {
        "index": image.index,
        "url": original_url(image, base_url),
        "thumbnail_url": image_url(image.thumbnail_key, base_url),
        "width": image.width,
        "height": image.height,
        "format": public_format(image.format),
        "bytes": image.bytes,
        "sha256": image.sha256,
        "seed": image.seed,
        "mark": cast(Literal["approved", "rejected"] | None, image.mark or None),
    }


def public_format(extension: str) -> str:
    """A file's format by the name that requests take, from its ending."""
    return "jpeg" if extension == "jpg" else extension


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


def input_body(text: str, model_key: str, params: Mapping[str, Any]) -> InputBody:
    kind = KINDS.get(params["kind"])  # None: a row from before the kind was taken out of the table
    drawn = ("steps", "cfg_scale", "sampler", "seed", "num_images", "style") if model_key else ()
    names = (*drawn, "postprocess")
    shown = {name: params[name] for name in (*names, *(kind.stored if kind else ())) if name in params}
    sides = f"{params['width']}x{params['height']}"
    loras = [{"name": lora["name"], "weight": lora["weight"]} for lora in params.get("loras", ())]
    decided = ("translated_text", "translated_negative_text", "lowered_from")
    lowered = {name: params[name] for name in decided if params.get(name)}
    model = {"model": model_key} if model_key else {}
    found = {"text": text, **model, "resolution": sides, **lowered, "loras": loras, **shown}
    return cast(InputBody, found)


def _iso(moment: Any) -> str | None:
    return moment.isoformat(timespec="milliseconds") if moment else None
