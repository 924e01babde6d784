"""The event stream of a task in the OpenAPI document: it is no DRF view, and OpenAPI 3.1 has no word for streams.

`x-events` has the schema of each event's `data`; generators that know no streams see a text.
"""

from typing import Annotated, Final, TypedDict

from generation.api.openapi.components import failures
from generation.api.openapi.json_types import schema_of
from generation.tasks.presentation import PublicStatus, TaskBody
from imagegenx_site.schema import Schema

PATH: Final = "/api/v1/image/task/{public_id}/events"


class StatusEvent(TypedDict):
    status: PublicStatus


class ProgressEvent(TypedDict):
    progress: Annotated[int, "Percent."]
    step: int
    steps: int


class PreviewEvent(TypedDict):
    index: Annotated[int, "The picture's number, from 0."]
    jpeg: Annotated[str, {"contentEncoding": "base64", "contentMediaType": "image/jpeg"}]


class EnlargingEvent(TypedDict):
    progress: Annotated[int, "Percent of the larger version."]


class UpdatedEvent(TypedDict):
    width: int
    height: int


class EndEvent(TypedDict):
    status: PublicStatus


EVENTS: Final = {
    "task": (TaskBody, "the task as a GET shows it: first of all, and again when it has changed at the end"),
    "status": (StatusEvent, "it moved on"),
    "progress": (ProgressEvent, "steps of denoising"),
    "preview": (PreviewEvent, "a small picture, where `params.preview` asked for it"),
    "enlarging": (EnlargingEvent, "after success: a larger version is being made"),
    "updated": (UpdatedEvent, "the larger version is there"),
    "end": (EndEvent, "nothing follows"),
}
_EXAMPLE: Final = """retry: 2000

id: 1764200000000-0
event: progress
data: {"progress": 40, "step": 8, "steps": 20}

event: end
data: {"status": "succeeded"}

"""


def operation(security: list[Schema]) -> Schema:
    """GET of the stream."""
    lines = [f"- `{name}`: {meaning}" for name, (_, meaning) in EVENTS.items()]
    media = {
        "schema": {"type": "string"},
        "example": _EXAMPLE,
        "x-events": {name: schema_of(data) for name, (data, _) in EVENTS.items()},
    }
    stream = {"description": "\n".join(["Server-sent events:", "", *lines]), "content": {"text/event-stream": media}}
    last = "The `id` of the last event seen: what happened since then comes first."
    return {
        "operationId": "task-events",
        "summary": "Watch a task: server-sent events until it ends",
        "description": "A comment every 15 s keeps the connection open.",
        "tags": ["image"],
        "parameters": [
            {"in": "path", "name": "public_id", "required": True, "schema": {"type": "string"}},
            {
                "in": "query",
                "name": "token",
                "schema": {"type": "string"},
                "description": "For browsers, which can't send headers; see `event-token`.",
            },
            {"in": "header", "name": "Last-Event-ID", "schema": {"type": "string"}, "description": last},
        ],
        "security": security,
        "responses": {"200": stream, **failures(400, 401, 403, 404, 429, 503)},
    }
