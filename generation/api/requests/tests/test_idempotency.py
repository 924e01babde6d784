"""What comes twice under one Idempotency-Key is done once, for every request that makes something."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client

from fixtures.rows import finish
from generation.accounts.models import ApiKey, User
from generation.api import new_keys
from generation.catalogue.models import Lora
from generation.catalogue.tests.test_loras import lora_bytes
from generation.policy import rules
from generation.policy.models import BlockedTerm, PolicyRefusal
from generation.tasks.models import IdempotencyKey, Task
from generation.webhooks.models import WebhookEndpoint

pytestmark = pytest.mark.django_db
ONCE = {"idempotency-key": '"k1"'}


@pytest.fixture
def client(client_of: Callable[..., Client], owner: User) -> Client:
    return client_of(owner)


def post(client: Client, path: str, body: Any) -> Any:
    return client.post(path, json.dumps(body), content_type="application/json", headers=ONCE)


def answers(first: Any, again: Any) -> Any:
    assert first.status_code == again.status_code
    assert first.json() == again.json()
    assert ("Idempotency-Replayed" in first, again["Idempotency-Replayed"]) == (False, "true")
    return first.json()["data"]


def test_a_retry_is_one_new_task(client: Client, make_task: Callable[..., Task]) -> None:
    path = f"/api/v1/image/task/{finish(make_task()).public_id}/retry"
    first, again = (client.post(path, headers=ONCE) for _ in "12")
    assert first.json()["data"]["task_id"] == again.json()["data"]["task_id"]
    assert (again["Idempotency-Replayed"], Task.objects.count()) == ("true", 2)
    other = f"/api/v1/image/task/{finish(make_task()).public_id}/retry"
    assert client.post(other, headers=ONCE).status_code == 422


def test_a_new_key_and_a_rotated_one_are_answered_again_with_their_text(client: Client) -> None:
    made = answers(*(post(client, "/api/v1/keys", {"name": "shop"}) for _ in "12"))
    rotated = answers(*(post(client, f"/api/v1/keys/{made['prefix']}/rotate", {"grace_seconds": 9}) for _ in "12"))
    assert ApiKey.objects.count() == 3
    secret = rotated["api_key"].rsplit("_", 1)[1]
    assert not any(secret.encode() in bytes(row.answer or b"") for row in IdempotencyKey.objects.all())
    opened = Client(headers={"authorization": f"Bearer {rotated['api_key']}"}).get("/api/v1/keys")
    assert opened.status_code == 200
    assert post(client, "/api/v1/keys", {"name": "another"}).status_code == 422


def test_a_webhook_is_made_and_rotated_once(client: Client) -> None:
    made = answers(*(post(client, "/api/v1/webhooks", {"url": "https://shop.example/hook"}) for _ in "12"))
    assert WebhookEndpoint.objects.exclude(url="").count() == 1
    answers(*(post(client, f"/api/v1/webhooks/{made['id']}/rotate", {}) for _ in "12"))


def test_an_uploaded_lora_is_one_version(client: Client) -> None:
    def upload(data: bytes) -> Any:
        form = {"name": "ink", "file": SimpleUploadedFile("ink.safetensors", data)}
        return client.post("/api/v1/lora/upload", form, headers=ONCE)

    answers(upload(lora_bytes()), upload(lora_bytes()))
    assert Lora.objects.count() == 1
    assert upload(b"other").status_code == 422


def test_a_refusal_by_policy_is_recorded_under_a_key_too(client: Client, owner: User) -> None:
    BlockedTerm.objects.create(term="gore", reason="violence")
    rules.reload()
    form = {"name": "gore", "file": SimpleUploadedFile("x.safetensors", lora_bytes())}
    refused = client.post("/api/v1/lora/upload", form, headers=ONCE)
    assert (refused.status_code, Lora.objects.count(), IdempotencyKey.objects.count()) == (400, 0, 0)
    assert PolicyRefusal.objects.get().reason == "policy_violence"


def test_a_request_that_failed_leaves_its_key_unused(client: Client) -> None:
    assert post(client, "/api/v1/webhooks", {"url": "https://a.example/h"}).status_code == 201
    path, body = "/api/v1/webhooks", json.dumps({"url": "https://a.example/h"})
    refused = client.post(path, body, content_type="application/json", headers={"idempotency-key": "k2"})
    assert (refused.status_code, IdempotencyKey.objects.count()) == (409, 1)


@pytest.mark.attacks
@pytest.mark.django_db(transaction=True)
def test_a_repeat_while_the_first_is_under_way_holds_no_thread(client: Client, monkeypatch: Any) -> None:
    """A dozen of them would hold every thread of the web process for as long as a large LoRA is received."""
    began, go_on, create = threading.Event(), threading.Event(), new_keys.create

    def slow(*args: Any) -> Any:
        began.set()
        assert go_on.wait(20)
        return create(*args)

    def first() -> None:
        found.append(post(client, "/api/v1/keys", {"name": "shop"}))
        connection.close()

    monkeypatch.setattr(new_keys, "create", slow)
    found: list[Any] = []
    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert began.wait(20)
        second = post(client, "/api/v1/keys", {"name": "shop"})
    finally:
        go_on.set()
        thread.join(20)
    assert (second.status_code, second["Retry-After"]) == (409, "1")
    answers(found[0], post(client, "/api/v1/keys", {"name": "shop"}))
