"""What the OpenAPI document says of each endpoint beside what its form says: the types of its answers, statuses,
headers and examples.

Every endpoint can answer the statuses in ALWAYS; what else it can answer is named where it is described.
"""

from typing import Any, Final, TypedDict

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from generation.api.envelope import ErrorBody
from generation.api.json_types import Schema, schema_of
from generation.api.kind_forms import form_of
from generation.catalogue.kinds import Kind
from generation.tasks.presentation import TaskBody

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
ERROR: Final = schema_of(ErrorBody)
OBJECT: Final[Schema] = {"type": "object"}
_PREFER: Final = OpenApiParameter(
    "Prefer", str, OpenApiParameter.HEADER, description="`wait=n`: answer with the finished task within n seconds."
)
_CANCEL_AFTER: Final = OpenApiParameter(
    "Cancel-After", str, OpenApiParameter.HEADER, description="`30s`, `5m`: not started by then, it expires."
)
_IDEMPOTENCY: Final = OpenApiParameter(
    "Idempotency-Key", str, OpenApiParameter.HEADER, description="The same key again answers the first task."
)


def enveloped(data: Any) -> Schema:
    """The schema of a success whose `data` is of this type."""
    return {
        "type": "object",
        "properties": {"code": {"const": 200}, "message": {"const": "success"}, "data": _schema(data)},
        "required": ["code", "message", "data"],
    }


def listed(item: Any) -> Schema:
    """The schema of a list under `items`."""
    return {
        "type": "object",
        "properties": {"items": {"type": "array", "items": _schema(item)}},
        "required": ["items"],
    }


def _schema(data: Any) -> Schema:
    return data if isinstance(data, dict) else schema_of(data)


def operation(
    name: str,
    summary: str,
    tag: str,
    *,
    data: Any = OBJECT,
    code: int = 200,
    also: tuple[int, ...] = (),
    **rest: Any,
) -> dict[str, Any]:
    """Arguments of `extend_schema` for one method of an endpoint; `data` is the type of its answer."""
    failures = {status: OpenApiResponse(ERROR, _MEANING[status]) for status in sorted({*ALWAYS, *also})}
    responses = {code: OpenApiResponse(enveloped(data), "Success."), **failures, **rest.pop("responses", {})}
    return {"operation_id": name, "summary": summary, "tags": [tag], "responses": responses, **rest}


def submit_operation(kind: Kind, accepted: Any, done: Any) -> dict[str, Any]:
    """The endpoint that makes tasks of a kind; the types of its answers 202 and 200."""
    finished = OpenApiResponse(enveloped(done), "The finished task (`Prefer: wait`), or the price of a dry run.")
    about: dict[str, Any] = {"request_only": True, "media_type": "application/json"}
    examples = [OpenApiExample(kind.path, value=kind.example, **about)]
    if kind.printed:
        examples.append(OpenApiExample(f"{kind.path}, as older documents print it", value=kind.printed, **about))
    return operation(
        kind.path,
        kind.summary,
        "image",
        data=accepted,
        code=202,
        also=(409, 413, 415, 422, 503),
        responses={200: finished},
        request=dict.fromkeys(("application/json", "multipart/form-data"), form_of(kind)),
        parameters=[_PREFER, _CANCEL_AFTER, _IDEMPOTENCY],
        examples=examples,
    )


def read_operation(name: str, summary: str, data: Any = TaskBody) -> dict[str, Any]:
    """GET of one thing, with an ETag."""
    known = OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER, description="The ETag already known.")
    same = {304: OpenApiResponse(None, "It is still as `If-None-Match` says.")}
    return operation(name, summary, "image", data=data, also=(404,), parameters=[known, _PREFER], responses=same)


class DeletedBody(TypedDict):
    task_id: str
    deleted: bool


def change_operation(name: str, summary: str, *, task: bool = False, accepted: bool = False) -> dict[str, Any]:
    """POST or DELETE of one task, without a body."""
    code = 202 if accepted else 200
    return operation(
        name, summary, "image", data=TaskBody if task else DeletedBody, code=code, also=(404, 409), request=None
    )


def picture() -> dict[str, Any]:
    """GET of a picture's bytes."""
    binary = OpenApiResponse(OpenApiTypes.BINARY, "The picture.")
    types = ("image/webp", "image/avif", "image/png", "image/jpeg")
    found: dict[Any, Any] = {(200, kind): binary for kind in types}
    found |= {302: OpenApiResponse(None, "The picture is at `Location`."), 304: OpenApiResponse(None, "Unchanged.")}
    found[(202, "application/json")] = OpenApiResponse(
        enveloped(dict[str, str]), "In the archive; ask again after `Retry-After` seconds."
    )
    failures = {status: OpenApiResponse(ERROR, _MEANING[status]) for status in (*ALWAYS, 404, 409, 503)}
    asked = [
        OpenApiParameter("index", int, description="The picture's number, from 0."),
        OpenApiParameter("variant", str, enum=["original", "medium", "thumbnail"]),
    ]
    return {
        "operation_id": "task-image",
        "summary": "Get an image of a task",
        "tags": ["image"],
        "responses": found | failures,
        "parameters": asked,
    }


def download(name: str, summary: str, **rest: Any) -> dict[str, Any]:
    """A ZIP file."""
    archive = {(200, "application/zip"): OpenApiResponse(OpenApiTypes.BINARY, "The pictures, streamed.")}
    failures = {status: OpenApiResponse(ERROR, _MEANING[status]) for status in (*ALWAYS, 404, 409)}
    return {"operation_id": name, "summary": summary, "tags": ["image"], "responses": archive | failures, **rest}
