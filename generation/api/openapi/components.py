"""Parts that many operations share stand once in the OpenAPI document, under `components`, and are referred to.

A schema that bears a name (`json_types.COMPONENT`) becomes a component schema; every failure is one of the shared
answers.
"""

from typing import Any, Final

from generation.api.envelope import ErrorBody
from generation.api.openapi.json_types import FILE, schema_of
from imagegenx_site.schema import COMPONENT, Schema

# Status -> name of the shared answer, what it means.
FAILURES: Final[dict[int, tuple[str, str]]] = {
    400: ("BadRequest", "The request is wrong: every fault with its field, code and what would be right."),
    401: ("Unauthorised", "No key, or one that is not valid."),
    403: ("Forbidden", "The key may not do that."),
    404: ("NotFound", "No such thing, or another user's."),
    405: ("MethodNotAllowed", "The address has other methods; `Allow` names them."),
    408: ("TooSlow", "The body came too slowly."),
    409: ("Conflict", "The state of things does not allow it now."),
    413: ("TooLarge", "The body is larger than this server takes."),
    415: ("UnsupportedMediaType", "The body is in a form that this endpoint does not read."),
    422: ("KeyReused", "The idempotency key was used for another request."),
    429: ("TooManyRequests", "A limit of the plan. `Retry-After` says when to come back."),
    503: ("Unavailable", "No room, or a server is away. `Retry-After` says when to come back."),
}
_OWN: Final = {COMPONENT, FILE, "x-spec-enum-id"}  # marks that are for the making of the document only
_SHARED_FIELDS: Final = {
    "callback_url": "CallbackUrl", "deadline_seconds": "DeadlineSeconds", "priority": "PriorityClass",
    "loras": "LoraChoices", "sampler": "SamplerName",
}  # fmt: skip
_RETRY_AFTER: Final = {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}
_WAIT: Final = {429, 503}  # always with `Retry-After`


def failures(*statuses: int) -> Schema:
    """References to the shared answers of these statuses."""
    return {str(status): {"$ref": f"#/components/responses/{FAILURES[status][0]}"} for status in sorted(statuses)}


def share(document: Schema) -> None:
    """Give the document its shared answers, and move every named schema to the components."""
    components = document["components"]
    schemas: Schema = {}
    for operation in _operations(document):
        _complete_body(operation.get("requestBody", {}), components["schemas"])
    components["responses"] = {name: _failure(status, said) for status, (name, said) in FAILURES.items()}
    for operation in _operations(document):
        refer = failures(*(int(status) for status in operation["responses"] if status.isdigit() and int(status) >= 400))
        operation["responses"].update(refer)
    components["parameters"] = _shared_parameters(document)
    _name_shared_fields(components["schemas"])
    for part in ("paths", "webhooks"):
        document[part] = _lifted(document[part], schemas)
    for part in ("responses", "schemas"):
        components[part] = _lifted(components[part], schemas)
    twice = schemas.keys() & components["schemas"].keys()
    if twice:
        raise ValueError(f"two schemas of the OpenAPI document are called {', '.join(sorted(twice))}")
    components["schemas"] = dict(sorted({**components["schemas"], **schemas}.items()))
    used = str(document)
    unused = [name for name, _ in FAILURES.values() if f"#/components/responses/{name}'" not in used]
    for name in unused:
        del components["responses"][name]


def _shared_parameters(document: Schema) -> Schema:
    """Headers that several operations take, by their names; the operations refer to them."""
    shared: Schema = {}
    for operation in _operations(document):
        for number, one in enumerate(operation.get("parameters", ())):
            name = one["name"].replace("-", "")
            if one["in"] == "header" and shared.setdefault(name, one) == one:
                operation["parameters"][number] = {"$ref": f"#/components/parameters/{name}"}
    return shared


def _name_shared_fields(schemas: Schema) -> None:
    """Long fields that all requests for tasks have become components."""
    for schema in schemas.values():
        for name, component in _SHARED_FIELDS.items():
            if name in schema.get("properties", {}):
                schema["properties"][name] = {**schema["properties"][name], COMPONENT: component}


def _complete_body(body: Schema, schemas: Schema) -> None:
    """A body is required where a field of it is. A multipart form whose pictures are files has a schema of its own."""
    for kind, media in body.get("content", {}).items():
        name = media["schema"]["$ref"].rpartition("/")[2]
        fields = schemas[name]["properties"]
        files = {field: schema[FILE] for field, schema in fields.items() if FILE in schema}
        if "required" in schemas[name] or "then" in schemas[name]:
            body["required"] = True
        if files and kind == "multipart/form-data":
            form = name.removesuffix("Request") + "Form"
            schemas[form] = {**schemas[name], "properties": {**fields, **files}}
            media["schema"] = {"$ref": f"#/components/schemas/{form}"}


def _operations(document: Schema) -> list[Schema]:
    return [operation for methods in document["paths"].values() for operation in methods.values()]


def _failure(status: int, said: str) -> Schema:
    content = {"application/json": {"schema": schema_of(ErrorBody)}}
    headers = {"headers": {"Retry-After": _RETRY_AFTER}} if status in _WAIT else {}
    return {"description": said, **headers, "content": content}


def _lifted(node: Any, schemas: Schema) -> Any:
    """The node with references instead of named schemas, which are put into `schemas`. Raises ValueError for two
    different ones of one name.
    """
    if isinstance(node, list):
        return [_lifted(part, schemas) for part in node]
    if not isinstance(node, dict):
        return node
    inner = {key: _lifted(part, schemas) for key, part in node.items() if key not in _OWN}
    name = node.get(COMPONENT)
    if name is None:
        return inner
    if schemas.setdefault(name, inner) != inner:
        raise ValueError(f"two schemas of the OpenAPI document are called {name}")
    return {"$ref": f"#/components/schemas/{name}"}
