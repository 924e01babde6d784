"""The OpenAPI document is true: whatever is sent, no endpoint breaks, and none answers what it does not say."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import openapi_spec_validator
import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.test import Client
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as hypothesis_settings

from fixtures.documented_answers import faults_of, validator_of
from fixtures.rows import finish, picture_bytes
from generation.accounts.models import Plan, User
from generation.api.catalogue import PlanBody
from generation.api.openapi import stream
from generation.catalogue.models import ImageModel, Lora
from generation.catalogue.parameters import parse_resolution
from generation.tasks.models import Task
from generation.tasks.outbox import payload
from generation.webhooks.events import EVENTS
from generation.webhooks.models import Delivery, WebhookEndpoint

CALLS = 6  # for each endpoint: enough to meet wrong types, bounds and missing fields; longer runs find nothing else
_QUICK = hypothesis_settings(
    max_examples=CALLS,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def document(db: None) -> dict[str, Any]:
    response = Client().get("/api/schema", headers={"accept": "application/vnd.oai.openapi+json"})
    assert response.status_code == 200
    found: dict[str, Any] = json.loads(response.content)
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_endpoint_is_described(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    found = dict(operations(document))
    assert len(found) >= 35
    for name, operation in found.items():
        assert operation["summary"], name
        assert {"401", "429"} <= operation["responses"].keys(), name
        assert len({"200", "201", "202"} & operation["responses"].keys()) >= 1, name
    names = [operation["operationId"] for operation in found.values()]
    assert len(names) == len(set(names))
    submit = found["POST /api/v1/image/generate"]
    assert submit["requestBody"]["content"]["application/json"]["examples"]


def test_the_document_is_openapi(document: dict[str, Any]) -> None:
    openapi_spec_validator.validate(document)


def test_the_document_stays_small(document: dict[str, Any]) -> None:
    """Every client that starts reads it, and generators make a file of every schema."""
    assert len(json.dumps(document, separators=(",", ":"))) < 125_000
    assert len(document["components"]["schemas"]) < 130


def test_one_credential_is_enough_and_names_its_scope(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    scopes = set()
    for name, operation in operations(document):
        ways = [next(iter(way)) for way in operation["security"]]
        assert ways == ["bearer", "apiKey", "oauth2"], name
        assert all(len(way) == 1 for way in operation["security"]), name
        scopes |= {*operation["security"][2]["oauth2"]}
    for flow in schemes["oauth2"]["flows"].values():
        assert flow["scopes"].keys() == scopes


def test_what_a_form_refuses_its_schema_refuses(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    requests = {name: schema for name, schema in schemas.items() if name.endswith(("Request", "Form"))}
    assert len(requests) > 15
    open_ones = [name for name, schema in requests.items() if schema.get("additionalProperties") is not False]
    assert open_ones == []


def test_pictures_are_texts_in_json_and_files_in_forms(document: dict[str, Any]) -> None:
    body = document["paths"]["/api/v1/image/img2img"]["post"]["requestBody"]
    assert body["required"]
    as_json, as_form = (body["content"][kind]["schema"] for kind in ("application/json", "multipart/form-data"))
    pictures = [document["components"]["schemas"][one["$ref"].rpartition("/")[2]] for one in (as_json, as_form)]
    assert [schema["properties"]["image"].get("format") for schema in pictures] == [None, "binary"]
    assert validator_of(as_json).is_valid({"text": "x", "image": "https://shop.example/cup.png"})
    assert not validator_of(as_json).is_valid({"text": "x"})
    assert not validator_of(as_json).is_valid({"text": "x", "image": "QQ==", "pramas": {}})
    text_only = document["paths"]["/api/v1/image/generate"]["post"]["requestBody"]
    assert text_only["content"].keys() == {"application/json"}


@pytest.mark.parametrize(
    ("text", "right"),
    [("512x512", True), (" 512 × 768 ", True), ("512*512", True), ("0", False), ("512", False), ("١x512", False)],
)
def test_sizes_are_read_as_their_pattern_says(document: dict[str, Any], text: str, right: bool) -> None:
    schema = document["components"]["schemas"]["ParamsRequest"]["properties"]["resolution"]
    assert validator_of(schema).is_valid(text) is right
    assert (parse_resolution(text) is not None) is right


def test_every_limit_of_a_plan_is_shown() -> None:
    assert PlanBody.__annotations__.keys() == {field.name for field in Plan._meta.fields} - {"id"}


def test_the_events_of_a_stream_have_schemas(document: dict[str, Any]) -> None:
    answer = document["paths"][stream.PATH]["get"]["responses"]["200"]
    shown = answer["content"]["text/event-stream"]["x-events"]
    assert shown.keys() == {"task", "status", "progress", "preview", "enlarging", "updated", "end"}
    assert all("$ref" in schema for schema in shown.values())
    assert validator_of(shown["preview"]).is_valid({"index": 0, "jpeg": "QQ=="})
    assert not validator_of(shown["end"]).is_valid({"status": "cancelled"})


def test_the_pages_open_without_a_network(db: None) -> None:
    page = Client().get("/api/docs").content.decode()
    assert "swagger" in page
    assert "cdn." not in page


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v1/image/task/", "/api/nothing"])
def test_an_address_that_is_none_is_told_in_json(db: None, path: str) -> None:
    response = Client().get(path)
    assert (response.status_code, response["Content-Type"]) == (404, "application/json")
    assert response.json()["data"]["request_id"] == response["X-Request-Id"]


def test_problem_json_on_demand(db: None) -> None:
    response = Client().get("/api/v1/styles", headers={"accept": "application/problem+json", "x-request-id": "abc"})
    assert response["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert (problem["status"], problem["type"]) == (401, "urn:imagegenx:error:unauthorised")
    assert (problem["request_id"], response["X-Request-Id"]) == ("abc", "abc")


@pytest.mark.parametrize(
    "headers",
    [{"authorization": "Bearer "}, {"authorization": "Bearer"}, {"authorization": "Basic Og=="}, {"x-api-key": ""}],
)
def test_an_empty_key_is_no_key(db: None, headers: dict[str, str]) -> None:
    """What an unset variable of a shell sends."""
    response = Client().get("/api/v1/styles", headers=headers)
    assert response.status_code == 401
    assert response.json()["message"].startswith("No API key.")


def test_what_is_neither_key_nor_token_is_told_so(db: None) -> None:
    response = Client().get("/api/v1/styles", headers={"authorization": "Bearer sk-proj-1234"})
    assert response.status_code == 401
    assert "neither an API key (igx_…) nor a valid access token" in response.json()["message"]


@pytest.mark.parametrize("sent", ["x" * 200, "a b", "a\tb", ""])
def test_a_strange_request_id_is_replaced(db: None, sent: str) -> None:
    assert len(Client().get("/healthz", headers={"x-request-id": sent})["X-Request-Id"]) == 32


def test_answers_are_as_the_document_says(
    document: dict[str, Any],
    client_of: Callable[..., Client],
    owner: User,
    make_task: Callable[..., Task],
    able_model: ImageModel,
) -> None:
    client, done = client_of(owner), finish(make_task())
    asked = {"text": "x", "params": {"resolution": "256x256", "seed": 1}}
    given = base64.b64encode(picture_bytes((256, 256))).decode()
    control = {**asked, "control_image": given, "params": {"control_type": "canny"}}
    checked = [
        holds(document, client, "get", "/api/v1/image/task/{public_id}", public_id=done.public_id)["outputs"],
        holds(document, client, "post", "/api/v1/image/generate", asked),
        holds(document, client, "post", "/api/v1/image/controlnet", control)["input"]["control_end"],
        holds(document, client, "post", "/api/v1/image/generate", {**asked, "dry_run": True}),
        holds(document, client, "post", "/api/v1/image/generate", {"text": ""})["errors"],
        holds(document, client, "post", "/api/v1/image/batch-generate", {"texts": ["x", "y"]})["tasks"],
        holds(document, client, "get", "/api/v1/image/tasks")["items"],
        holds(document, client, "post", "/api/v1/keys", {"name": "second"}),
        holds(document, client, "post", "/api/v1/webhooks", {"url": "https://hook.example/"}),
    ]
    assert all(checked)
    Lora.objects.create(name="ink", owner=owner, sha256="0" * 64, source="x", state=Lora.State.ACTIVE)
    for path in ("models", "styles", "lora", "keys", "webhooks", "usage"):
        assert holds(document, client, "get", f"/api/v1/{path}")["items"] or path == "usage"


def test_what_webhooks_get_is_as_the_document_says(document: dict[str, Any], make_task: Callable[..., Task]) -> None:
    task = finish(make_task())
    endpoint = WebhookEndpoint.objects.create(user=task.user, url="https://hook.example/")
    row = Delivery.objects.create(task=task, endpoint=endpoint, event_id="e", event_type=EVENTS[0], url=endpoint.url)
    sent = document["webhooks"][EVENTS[0]]["post"]["requestBody"]["content"]["application/json"]["schema"]
    validator_of(sent).validate(json.loads(json.dumps(payload(row))))
    assert document["webhooks"].keys() == set(EVENTS)


def holds(
    document: dict[str, Any], client: Client, method: str, path: str, body: Any = None, **names: str
) -> dict[str, Any]:
    """The `data` of an answer that has been checked against the document; no field of it is undocumented."""
    send = getattr(client, method)
    address = path.format(**names)
    answer = send(address, json.dumps(body), content_type="application/json") if body else send(address)
    assert not faults_of(path, method, answer.status_code, answer.json())
    found: dict[str, Any] = answer.json()["data"]
    return found


@pytest.fixture
def kept_connection() -> Iterator[None]:
    """Requests through WSGI would close the connection that holds the test's rows."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.mark.django_db
def test_no_endpoint_breaks_or_answers_what_is_not_documented(
    document: dict[str, Any],
    owner: User,
    key_of: Callable[..., str],
    make_task: Callable[..., Task],
    kept_connection: None,
) -> None:
    owner.team.plan.__class__.objects.update(requests_per_second=100_000)  # type: ignore[union-attr]
    document["paths"].pop("/api/v1/image/task/{public_id}/events")
    known = finish(make_task()).public_id
    schema = schemathesis.openapi.from_dict(document)
    schema.app = get_wsgi_application()
    key, seen = key_of(owner), 0
    for result in schema.get_all_operations():
        operation = result.ok()

        @_QUICK
        @seed(7)
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            nonlocal seen, key
            if "public_id" in (case.path_parameters or {}):
                case.path_parameters["public_id"] = known
            response = case.call(headers={"authorization": f"Bearer {key}"})
            seen += 1
            documented = case.operation.definition.raw["responses"]
            told = f"{case.method} {case.formatted_path}: {response.status_code} {response.content[:300]!r}"
            assert response.status_code < 500, told
            assert str(response.status_code) in documented or response.status_code in (404, 405), told
            assert "x-request-id" in response.headers

        ask()
    assert seen > 100
