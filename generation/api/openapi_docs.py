"""What the OpenAPI document says of each endpoint beside what its serializer says: answers, statuses, headers and
examples.

Every endpoint can answer the statuses in ALWAYS; what else it can answer is named where it is described.
"""

from typing import Any, Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from generation.api.kind_forms import form_of
from generation.catalogue.kinds import Kind

Schema = dict[str, Any]

ALWAYS: Final = (400, 401, 403, 429)
_MEANING: Final = {
    400: "The request is wrong: every fault with its field, code and what would be right.",
    401: "No key, or one that is not valid.",
    403: "The key may not do that.",
    404: "No such thing, or another user's.",
    409: "The state of things does not allow it now.",
    413: "The body is larger than this server takes.",
    415: "The body is in a form that this endpoint does not read.",
    422: "The idempotency key was used for another request.",
    429: "A limit of the plan. `Retry-After` says when to come back.",
    503: "No room, or the store is away. `Retry-After` says when to come back.",
}
_STRING: Final[Schema] = {"type": "string"}
_INTEGER: Final[Schema] = {"type": "integer"}
_FAULT: Final[Schema] = {
    "type": "object",
    "properties": {"field": {"type": ["string", "null"]}, "code": _STRING, "message": _STRING},
    "required": ["field", "code", "message"],
}
ERROR: Final[Schema] = {
    "type": "object",
    "properties": {
        "code": _INTEGER,
        "message": _STRING,
        "data": {
            "type": "object",
            "properties": {
                "errors": {"type": "array", "items": _FAULT},
                "request_id": {"type": ["string", "null"]},
            },
            "required": ["errors"],
        },
    },
    "required": ["code", "message", "data"],
}
OBJECT: Final[Schema] = {"type": "object"}
TASK: Final[Schema] = {
    "type": "object",
    "properties": {
        "task_id": {"type": "string", "examples": ["img019aa2b3c4d57e8f9a0b1c2d3e4f5061"]},
        "batch_id": {"type": ["string", "null"]},
        "kind": _STRING,
        "status": {"enum": ["queued", "running", "succeeded", "failed", "canceled", "expired"]},
        "progress": {"type": "integer", "minimum": 0, "maximum": 100},
        "position": {"type": ["integer", "null"], "description": "Place among what waits; 1 comes next."},
        "estimated_time": {"type": ["number", "null"], "description": "Seconds until it will probably end."},
        "query_url": _STRING,
        "temp_url": {"type": ["string", "null"], "description": "The first picture, once there is one."},
        "outputs": {"type": "array", "items": OBJECT},
        "enlarging": {"type": "boolean", "description": "Larger pictures will replace these (`upscale.late`)."},
        "input": OBJECT,
        "priority": _INTEGER,
        "attempts": _INTEGER,
        "warnings": {"type": "array"},
        "error": {"type": ["object", "null"]},
        "created_at": _STRING,
        "started_at": {"type": ["string", "null"]},
        "finished_at": {"type": ["string", "null"]},
        "expires_at": _STRING,
    },
    "required": ["task_id", "status", "progress", "query_url", "outputs"],
}
BATCH: Final[Schema] = {
    "type": "object",
    "properties": {
        "batch_id": _STRING,
        "status": {"enum": ["queued", "running", "succeeded", "failed", "canceled", "expired", "partial"]},
        "progress": {"type": "number"},
        "size": _INTEGER,
        "batch_size": {
            "type": ["integer", "null"],
            "description": "How many of the tasks may share a forward pass; null: no limit was set.",
        },
        "counts": OBJECT,
        "tasks": {"type": "array", "items": OBJECT},
        "query_url": _STRING,
    },
    "required": ["batch_id", "status", "progress", "tasks"],
}
_PREFER: Final = OpenApiParameter(
    "Prefer", str, OpenApiParameter.HEADER, description="`wait=n`: answer with the finished task within n seconds."
)
_CANCEL_AFTER: Final = OpenApiParameter(
    "Cancel-After", str, OpenApiParameter.HEADER, description="`30s`, `5m`: not started by then, it expires."
)
_IDEMPOTENCY: Final = OpenApiParameter(
    "Idempotency-Key", str, OpenApiParameter.HEADER, description="The same key again answers the first task."
)


def enveloped(data: Schema) -> Schema:
    """The schema of a success whose `data` is this."""
    return {
        "type": "object",
        "properties": {"code": {"const": 200}, "message": {"const": "success"}, "data": data},
        "required": ["code", "message", "data"],
    }


def listed(items: Schema) -> Schema:
    """The schema of a list under `items`."""
    return {
        "type": "object",
        "properties": {"items": {"type": "array", "items": items}},
        "required": ["items"],
    }


def operation(
    name: str,
    summary: str,
    tag: str,
    *,
    data: Schema = OBJECT,
    code: int = 200,
    also: tuple[int, ...] = (),
    **rest: Any,
) -> dict[str, Any]:
    """Arguments of `extend_schema` for one method of an endpoint."""
    failures = {status: OpenApiResponse(ERROR, _MEANING[status]) for status in sorted({*ALWAYS, *also})}
    responses = {code: OpenApiResponse(enveloped(data), "Success."), **failures, **rest.pop("responses", {})}
    return {"operation_id": name, "summary": summary, "tags": [tag], "responses": responses, **rest}


def submitting(kind: Kind) -> dict[str, Any]:
    """The endpoint that makes tasks of a kind."""
    done = OpenApiResponse(enveloped(OBJECT), "The finished task (`Prefer: wait`), or the price of a dry run.")
    example = OpenApiExample(kind.path, value=kind.example, request_only=True, media_type="application/json")
    return operation(
        kind.path,
        kind.summary,
        "image",
        data=BATCH if kind.many_texts else TASK,
        code=202,
        also=(409, 413, 415, 422, 503),
        responses={200: done},
        request=dict.fromkeys(("application/json", "multipart/form-data"), form_of(kind)),
        parameters=[_PREFER, _CANCEL_AFTER, _IDEMPOTENCY],
        examples=[example],
    )


def reading(name: str, summary: str, data: Schema = TASK) -> dict[str, Any]:
    """GET of one thing, with an ETag."""
    known = OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER, description="The ETag already known.")
    same = {304: OpenApiResponse(None, "It is still as `If-None-Match` says.")}
    return operation(name, summary, "image", data=data, also=(404,), parameters=[known], responses=same)


def changing(name: str, summary: str, *, task: bool = False, accepted: bool = False) -> dict[str, Any]:
    """POST or DELETE of one task, without a body."""
    code = 202 if accepted else 200
    return operation(name, summary, "image", data=TASK if task else OBJECT, code=code, also=(404, 409), request=None)


def picture() -> dict[str, Any]:
    """GET of a picture's bytes."""
    binary = OpenApiResponse(OpenApiTypes.BINARY, "The picture.")
    types = ("image/webp", "image/avif", "image/png", "image/jpeg")
    found: dict[Any, Any] = {(200, kind): binary for kind in types}
    found |= {302: OpenApiResponse(None, "The picture is at `Location`."), 304: OpenApiResponse(None, "Unchanged.")}
    found[(202, "application/json")] = OpenApiResponse(OBJECT, "In the archive; ask again after `Retry-After` seconds.")
    failures = {status: OpenApiResponse(ERROR, _MEANING[status]) for status in (*ALWAYS, 404, 409, 503)}
    asked = [
        OpenApiParameter("index", int, description="The picture's number, from 0."),
        OpenApiParameter("variant", str, enum=["original", "medium", "thumbnail"]),
    ]
    return {
        "operation_id": "task-image",
        "summary": "A picture of the task",
        "tags": ["image"],
        "responses": found | failures,
        "parameters": asked,
    }


def download(name: str, summary: str, **rest: Any) -> dict[str, Any]:
    """A ZIP file."""
    archive = {(200, "application/zip"): OpenApiResponse(OpenApiTypes.BINARY, "The pictures, streamed.")}
    failures = {status: OpenApiResponse(ERROR, _MEANING[status]) for status in (*ALWAYS, 404, 409)}
    return {"operation_id": name, "summary": summary, "tags": ["image"], "responses": archive | failures, **rest}
