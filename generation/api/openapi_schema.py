"""The OpenAPI document beside its endpoints: how to authenticate, and the event stream, which is no DRF view."""

import functools
import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer

from generation.accounts.models import SCOPES
from generation.api.openapi import components, requests, stream
from generation.api.openapi.json_types import schema_of
from generation.tasks.outbox import EventBody
from generation.webhooks.events import EVENTS

_TYPE = "application/vnd.oai.openapi+json"
extensions = requests  # drf-spectacular finds what has been imported


@require_safe
def document(request: HttpRequest) -> HttpResponse:
    """GET /api/schema: the same for everybody, made once in a process; to make it takes a third of a second."""
    return HttpResponse(document_bytes(), content_type=_TYPE, headers={"Cache-Control": "public, max-age=300"})


@functools.cache
def document_bytes() -> bytes:
    """The document, without white space."""
    rendered = OpenApiJsonRenderer().render(SchemaGenerator().get_schema(request=None, public=True))
    return json.dumps(json.loads(rendered), ensure_ascii=False, separators=(",", ":")).encode()


class KeyScheme(OpenApiAuthenticationExtension):
    """An API key in either header, or an access token with the scope of the operation."""

    target_class = "generation.api.authentication.ApiKeyAuthentication"
    name = ["bearer", "apiKey", "oauth2"]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[Any]]]:
        """One of them is enough."""
        method = auto_schema.method
        return security(auto_schema.view.scopes.get(method, "generate"))

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:
        """All of them."""
        token = {"tokenUrl": "/oauth/token/", "scopes": SCOPES}
        flows = {
            "clientCredentials": token,
            "authorizationCode": {**token, "authorizationUrl": "/oauth/authorize/", "refreshUrl": "/oauth/token/"},
        }
        return [
            {"type": "http", "scheme": "bearer", "description": "An API key (igx_...) or an OAuth access token."},
            {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            {"type": "oauth2", "flows": flows},
        ]


def security(scope: str) -> list[dict[str, list[Any]]]:
    """The ways to authenticate, of which each is enough."""
    return [{"bearer": []}, {"apiKey": []}, {"oauth2": [scope]}]


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


def complete(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Hook of drf-spectacular: add the event stream and the webhooks, and put what is shared into the components."""
    result["paths"][stream.PATH] = {"get": stream.operation(security("read"))}
    result["webhooks"] = _webhooks()
    components.share(result)
    return result
