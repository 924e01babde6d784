"""The children's service: its four doors, and for whom they open."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from PIL import Image as Pillow

from fixtures.rows import finish
from generation.accounts.models import ApiKey, User
from generation.policy.models import PolicyProfile
from generation.tasks import states
from generation.tasks.models import Image, Task
from storage.store import get_store

pytestmark = pytest.mark.django_db


@pytest.fixture
def profile(seeded: None) -> PolicyProfile:
    return PolicyProfile.objects.get(name="child-safe")


@pytest.fixture
def client(client_of: Callable[..., Client], owner: User, profile: PolicyProfile) -> Client:
    return client_of(owner, profile=profile)


def ask(client: Client, body: Any) -> Any:
    return client.post("/generate", json.dumps(body), content_type="application/json")


def test_a_picture_is_asked_for_followed_and_fetched(client: Client) -> None:
    answer = ask(client, {"prompt": "a red cat", "style": "Cartoon"})
    assert (answer.status_code, answer.json().keys()) == (200, {"task_id", "message"})
    name = answer.json()["task_id"]
    seen = client.get(f"/status/{name}").json()
    assert seen.keys() == {"task_id", "prompt", "style", "status", "image_url", "error", "timestamp"}
    assert (seen["status"], seen["prompt"], seen["style"]) == ("queued", "a red cat", "cartoon")
    assert (seen["image_url"], seen["error"]) == (None, None)
    assert client.get(f"/result/{name}.png").status_code == 409
    task = finish(Task.objects.get())
    assert task.parameters.postprocess["format"] == "png"
    written = io.BytesIO()
    Pillow.new("RGB", (8, 8)).save(written, "PNG")
    get_store("images").put(Image.objects.get().key, written.getvalue(), "image/png")
    seen = client.get(f"/status/{name}").json()
    assert (seen["status"], seen["image_url"]) == ("completed", f"http://testserver/result/{name}.png")
    picture = client.get(f"/result/{name}.png")
    assert (picture["Content-Type"], Pillow.open(io.BytesIO(picture.content)).size) == ("image/png", (8, 8))


def test_a_failed_task_says_why(client: Client) -> None:
    name = ask(client, {"prompt": "a cat"}).json()["task_id"]
    states.fail(Task.objects.get().id, code="out_of_memory", message="Too large.")
    seen = client.get(f"/status/{name}").json()
    assert (seen["status"], seen["error"]) == ("failed", "Too large.")
    assert client.get(f"/result/{name}.png").status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt": "a bear with a gun", "style": "cartoon"}, "prompt"),
        ({"prompt": "a spreadsheet"}, "prompt"),
        ({"prompt": "a cat", "style": "photorealistic"}, "style"),
        ({}, "prompt"),
    ],
)
def test_what_is_not_for_children_is_refused(client: Client, body: Any, field: str) -> None:
    answer = ask(client, body)
    assert (answer.status_code, answer.json()["detail"].startswith(f"{field}: ")) == (400, True), answer.json()
    assert Task.objects.count() == 0


def test_the_doors_are_closed_by_default(client_of: Callable[..., Client], owner: User, profile: PolicyProfile) -> None:
    for path in ("/status/x", "/result/x.png"):
        assert Client().get(path).status_code == 401
    assert ask(Client(), {"prompt": "a cat"}).status_code == 401
    assert ask(client_of(owner), {"prompt": "a cat"}).status_code == 403
    loose = PolicyProfile.objects.create(name="loose", title="Loose", child_safe_styles=False)
    assert ask(client_of(owner, profile=loose), {"prompt": "a cat"}).status_code == 403
    assert Task.objects.count() == 0


def test_a_key_that_the_operator_named_stands_for_those_who_have_none(
    owner: User, profile: PolicyProfile, client: Client, settings: Any
) -> None:
    named, _ = ApiKey.make(owner, profile=profile)
    settings.CHILDREN_KEY = named.prefix
    name = ask(Client(), {"prompt": "a cat"}).json()["task_id"]
    assert Task.objects.get().api_key_id == named.pk
    assert Client().get(f"/status/{name}").status_code == 200
    other = ask(client, {"prompt": "a dog"}).json()["task_id"]
    assert Client().get(f"/status/{other}").status_code == 404, "a task of another key"
    assert Client().get("/api/v1/image/tasks").status_code == 401, "the key opens these doors alone"
    assert ask(Client(headers={"authorization": "Bearer igx_x_y"}), {"prompt": "a cat"}).status_code == 401


@pytest.mark.parametrize("change", ["no such key", "signed", "revoked", "no profile"])
def test_a_named_key_that_does_not_do_opens_nothing(
    owner: User, profile: PolicyProfile, settings: Any, change: str
) -> None:
    changes: dict[str, dict[str, Any]] = {
        "signed": {"must_sign": True},
        "revoked": {"revoked_at": timezone.now()},
        "no profile": {"profile": None},
    }
    named, _ = ApiKey.make(owner, **{"profile": profile} | changes.get(change, {}))
    settings.CHILDREN_KEY = "abcdef" if change == "no such key" else named.prefix
    assert ask(Client(), {"prompt": "a cat"}).status_code in (401, 403)
    assert Task.objects.count() == 0


def test_a_body_that_is_no_json_is_said_without_a_field(client: Client) -> None:
    answer = client.post("/generate", "{", content_type="application/json")
    assert (answer.status_code, answer.json()["detail"].startswith("The body is not JSON")) == (400, True)


def test_health_needs_no_key(db: None) -> None:
    answer = Client().get("/health")
    assert (answer.status_code, answer.json().keys()) == (200, {"status", "timestamp"})
    assert answer.json()["status"] == "healthy"
