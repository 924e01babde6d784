"""The OpenAPI document beside its endpoints: how to authenticate, and the event stream, which is no DRF view."""

import functools
import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer

from generation.api.json_types import schema_of
from generation.api.openapi_docs import ERROR
from generation.tasks.outbox import EventBody
from generation.webhooks.events import EVENTS

_TYPE = "application/vnd.oai.openapi+json"
_EVENTS = "/api/v1/image/task/{public_id}/events"


@require_safe
def document(request: HttpRequest) -> HttpResponse:
    """GET /api/schema: the same for everybody, made once in a process; to make it takes a third of a second."""
    return HttpResponse(_document(), content_type=_TYPE, headers={"Cache-Control": "public, max-age=300"})


@functools.cache
def _document() -> bytes:
    rendered = OpenApiJsonRenderer().render(SchemaGenerator().get_schema(request=None, public=True))
    return json.dumps(json.loads(rendered), ensure_ascii=False, separators=(",", ":")).encode()


class KeyScheme(OpenApiAuthenticationExtension):
    """An API key or an access token."""

    target_class = "generation.api.authentication.ApiKeyAuthentication"
    name = ["bearer", "apiKey"]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:
        """Both forms."""
        bearer = {"type": "http", "scheme": "bearer", "description": "An API key (igx_...) or an OAuth access token."}
        return [bearer, {"type": "apiKey", "in": "header", "name": "X-API-Key"}]


def _webhooks() -> dict[str, Any]:
    """What is posted to webhook endpoints and to a request's `callback_url`."""
    content = {"application/json": {"schema": schema_of(EventBody)}}
    answers = {"2XX": {"description": "Taken."}, "410": {"description": "The endpoint is disabled."}}
    return {
        event: {
            "post": {
                "operationId": event,
                "summary": f"{event}: the task as it is now",
                "description": "Signed as Standard Webhooks say: webhook-id, webhook-timestamp, webhook-signature.",
                "requestBody": {"content": content},
                "responses": answers,
            }
        }
        for event in EVENTS
    }


def add_undescribed_parts(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Hook of drf-spectacular: add the event stream, webhooks and the OAuth flows."""
    failures = {
        str(status): {"description": what, "content": {"application/json": {"schema": ERROR}}}
        for status, what in ((401, "No key and no valid token."), (404, "No such task."), (429, "Too many requests."))
    }
    stream = {"description": "Server-sent events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
    result["paths"][_EVENTS] = {
        "get": {
            "operationId": "task-events",
            "summary": "Watch a task: server-sent events until it ends",
            "description": "Events: task, status, progress, preview, enlarging, updated, end. `Last-Event-ID` resumes.",
            "tags": ["image"],
            "parameters": [
                {"in": "path", "name": "public_id", "required": True, "schema": {"type": "string"}},
                {"in": "query", "name": "token", "schema": {"type": "string"}, "description": "For browsers."},
                {"in": "header", "name": "Last-Event-ID", "schema": {"type": "string"}},
            ],
            "security": [{"bearer": []}, {"apiKey": []}],
            "responses": {"200": stream, **failures},
        }
    }
    result["webhooks"] = _webhooks()
    flows = {
        "clientCredentials": {"tokenUrl": "/oauth/token/", "scopes": {}},
        "authorizationCode": {"authorizationUrl": "/oauth/authorize/", "tokenUrl": "/oauth/token/", "scopes": {}},
    }
    schemes = result.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["oauth2"] = {"type": "oauth2", "flows": flows}
    return result
