"""What the OpenAPI document says of each endpoint beside what its form says: the types of its answers, statuses,
headers and examples.

Every endpoint can answer the statuses in ALWAYS; what else it can answer is named where it is described.
"""

from typing import Any, Final, TypedDict

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from generation.api.kind_forms import form_of
from generation.api.openapi.components import FAILURES
from generation.api.openapi.json_types import schema_of
from generation.catalogue.kinds import Kind
from generation.tasks.presentation import Moment, TaskBody
from imagegenx_site.schema import COMPONENT, Schema

ALWAYS: Final = (400, 401, 403, 429)
CANCEL_AFTER: Final = r"^(?!0+[smh]?$)([0-9]{1,5})([smh]?)$"  # as JavaScript reads it, too
_PREFER: Final = OpenApiParameter(
    "Prefer",
    {"type": "string", "examples": ["wait=30"]},
    OpenApiParameter.HEADER,
    description="`wait=n`: answer with the finished task within n seconds.",
)
_CANCEL_AFTER: Final = OpenApiParameter(
    "Cancel-After",
    {"type": "string", "pattern": CANCEL_AFTER, "examples": ["30s", "5m"]},
    OpenApiParameter.HEADER,
    description="`30s`, `5m`, `1h`: a task that has not started by then expires.",
)
_IDEMPOTENCY: Final = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "maxLength": 255},
    OpenApiParameter.HEADER,
    description="The same key and body again: the first task is answered.",
)


def enveloped(data: Any) -> Schema:
    """The schema of a success whose `data` is of this type."""
    inner = _schema(data)
    return {
        **_named(inner, "{}Answer"),
        "type": "object",
        "properties": {"code": {"const": 200}, "message": {"const": "success"}, "data": inner},
        "required": ["code", "message", "data"],
    }


def listed(item: Any) -> Schema:
    """The schema of a list under `items`."""
    inner = _schema(item)
    return {
        **_named(inner, "{}List"),
        "type": "object",
        "properties": {"items": {"type": "array", "items": inner}},
        "required": ["items"],
    }


def _named(inner: Schema, form: str) -> Schema:
    """The name of a schema round another, made of that one's."""
    named = [one.get(COMPONENT) for one in inner.get("anyOf", [inner])]
    return {COMPONENT: form.format("Or".join(named))} if all(named) else {}


def failures(*statuses: int) -> dict[Any, OpenApiResponse]:
    """Placeholders for the shared answers of these statuses (openapi/components.py)."""
    return {status: OpenApiResponse(None, FAILURES[status][1]) for status in sorted({*ALWAYS, *statuses})}


def _schema(data: Any) -> Schema:
    return data if isinstance(data, dict) else schema_of(data)


def operation(
    name: str,
    summary: str,
    tag: str,
    *,
    data: Any,
    code: int = 200,
    also: tuple[int, ...] = (),
    **rest: Any,
) -> dict[str, Any]:
    """Arguments of `extend_schema` for one method of an endpoint; `data` is the type of its answer."""
    if any(getattr(one, "name", "") == "Idempotency-Key" for one in rest.get("parameters", ())):
        also = (*also, 409, 422)
    responses = {code: OpenApiResponse(enveloped(data), "Success."), **failures(*also), **rest.pop("responses", {})}
    return {"operation_id": name, "summary": summary, "tags": [tag], "responses": responses, **rest}


def submit_operation(kind: Kind, accepted: Any, done: Any) -> dict[str, Any]:
    """The endpoint that makes tasks of a kind; the types of its answers 202 and 200."""
    finished = OpenApiResponse(enveloped(done), "The finished task (`Prefer: wait`), or the price of a dry run.")
    types = ("application/json", "multipart/form-data") if kind.pictures else ("application/json",)
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
        request=dict.fromkeys(types, form_of(kind)),
        parameters=[_PREFER, _CANCEL_AFTER, _IDEMPOTENCY],
        examples=examples,
    )


def read_operation(name: str, summary: str, data: Any = TaskBody) -> dict[str, Any]:
    """GET of one thing, with an ETag."""
    known = OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER, description="The ETag already known.")
    same = {304: OpenApiResponse(None, "It is still as `If-None-Match` says.")}
    return operation(name, summary, "image", data=data, also=(404,), parameters=[known, _PREFER], responses=same)


class DeletedTaskBody(TypedDict):
    task_id: str
    deleted: bool


class ArchivedBody(TypedDict):
    """A picture that comes back from the archive."""

    status: str
    ready_at: Moment


def change_operation(
    name: str, summary: str, *, task: bool = False, accepted: bool = False, **rest: Any
) -> dict[str, Any]:
    """POST or DELETE of one task, without a body."""
    data, code = TaskBody if task else DeletedTaskBody, 202 if accepted else 200
    return operation(name, summary, "image", data=data, code=code, also=(404, 409), request=None, **rest)


def picture() -> dict[str, Any]:
    """GET of a picture's bytes."""
    binary = OpenApiResponse(OpenApiTypes.BINARY, "The picture.")
    types = ("image/webp", "image/avif", "image/png", "image/jpeg")
    found: dict[Any, Any] = {(200, kind): binary for kind in types}
    found |= {302: OpenApiResponse(None, "The picture is at `Location`."), 304: OpenApiResponse(None, "Unchanged.")}
    found[(202, "application/json")] = OpenApiResponse(
        enveloped(ArchivedBody), "In the archive; ask again after `Retry-After` seconds."
    )
    failed = failures(404, 409, 503)
    asked = [
        OpenApiParameter(
            "index", {"type": "integer", "minimum": 0, "maximum": 9999}, description="The picture's number, from 0."
        ),
        OpenApiParameter("variant", str, enum=["original", "medium", "thumbnail"]),
        OpenApiParameter("redirect", bool, description="False: never a redirect to the object store."),
    ]
    return {
        "operation_id": "task-image",
        "summary": "Get an image of a task",
        "tags": ["image"],
        "responses": found | failed,
        "parameters": asked,
    }


def download(name: str, summary: str, **rest: Any) -> dict[str, Any]:
    """A ZIP file."""
    archive = {(200, "application/zip"): OpenApiResponse(OpenApiTypes.BINARY, "The pictures, streamed.")}
    failed = failures(404, 409)
    return {"operation_id": name, "summary": summary, "tags": ["image"], "responses": archive | failed, **rest}
