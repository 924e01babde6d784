"""What the page asks of the API, there for every client: price and time beforehand, what a model knows, what is
open, the account and its quotas, keys bound to a profile.
"""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from fixtures.rows import finish
from generation.accounts.models import ApiKey, User
from generation.policy.models import PolicyProfile
from generation.tasks.models import Status, Task

GENERATE = "/api/v1/image/generate"


@pytest.fixture
def client(owner: User, client_of: Callable[..., Client]) -> Client:
    return client_of(owner)


def post(client: Client, path: str, body: dict[str, Any]) -> Any:
    return client.post(path, body, content_type="application/json")


def price(client: Client, text: str, **params: Any) -> dict[str, Any]:
    answer = post(client, GENERATE, {"text": text, "params": params, "dry_run": True})
    assert answer.status_code == 200, answer.content
    data: dict[str, Any] = answer.json()["data"]
    return data


def test_a_dry_run_says_how_long_it_would_take_and_waits_behind_what_is_queued(
    transactional_db: None, redis: Any, client: Client
) -> None:
    alone, more = (price(client, "a star", num_images=count)["estimated_time"] for count in (1, 4))
    assert 0 < alone < more
    for _ in range(5):
        assert post(client, GENERATE, {"text": "a star"}).status_code == 202
    assert price(client, "a star")["estimated_time"] > alone


def test_a_dry_run_warns_as_the_task_would(client: Client) -> None:
    assert price(client, "a star")["warnings"] == []
    said = price(client, "звезда", style="cartoon")["warnings"]
    made = post(client, GENERATE, {"text": "звезда", "params": {"style": "cartoon"}}).json()["data"]
    assert len(said) == 2
    assert said == made["warnings"]


def test_a_model_says_which_words_and_samplers_it_knows(client: Client, able_model: Any) -> None:
    found = {model["name"]: model for model in client.get("/api/v1/models").json()["data"]["items"]}
    assert {"bear", "rabbit", "blue"} <= set(found["mini"]["words"])
    assert "bicycle" not in found["mini"]["words"]
    assert found["able"]["words"] is None
    assert "dpm++" in found["mini"]["samplers"]


def test_what_has_not_ended_is_found_with_one_filter(client: Client, make_task: Callable[..., Task]) -> None:
    waiting, drawn = make_task(), make_task(Status.GENERATED)
    make_task(Status.FAILED)
    finish(make_task())
    items = client.get("/api/v1/image/tasks?status=open").json()["data"]["items"]
    assert {item["task_id"] for item in items} == {waiting.public_id, drawn.public_id}


def test_the_account_shows_who_asks_and_what_is_left_of_today(
    owner: User, make_user: Callable[..., User], client_of: Callable[..., Client]
) -> None:
    free = client_of(make_user("guest", plan="free"), scopes=["read", "generate"])
    before = free.get("/api/v1/account").json()["data"]
    assert post(free, GENERATE, {"text": "a star", "params": {"num_images": 3}}).status_code == 202
    after = free.get("/api/v1/account").json()["data"]
    left = [{one["name"]: one["left"] for one in body["quotas"]} for body in (before, after)]
    assert left == [{"concurrent": 100, "daily-images": 1000}, {"concurrent": 99, "daily-images": 997}]
    assert (after["user"], after["plan"], after["scopes"], after["profile"]) == (
        "guest",
        "free",
        ["read", "generate"],
        None,
    )


def test_a_key_bound_to_a_profile_is_made_and_never_unbound(owner: User, client: Client) -> None:
    made = post(client, "/api/v1/keys", {"name": "for the class", "profile": "child-safe"})
    assert (made.status_code, made.json()["data"]["profile"]) == (201, "child-safe")
    child = Client(headers={"authorization": f"Bearer {made.json()['data']['api_key']}"})
    profile = child.get("/api/v1/account").json()["data"]["profile"]
    assert (profile["name"], profile["child_safe_styles"], "bear" in profile["subjects"]) == ("child-safe", True, True)
    assert post(child, GENERATE, {"text": "a bear", "params": {"style": "cartoon"}}).status_code == 202
    assert post(child, GENERATE, {"text": "a gun", "params": {"style": "cartoon"}}).status_code == 400

    PolicyProfile.objects.create(name="other", title="Other")
    assert post(child, "/api/v1/keys", {"profile": "other"}).status_code == 403
    inherited = post(child, "/api/v1/keys", {"name": "again"}).json()["data"]
    assert inherited["profile"] == "child-safe"
    refused = post(client, "/api/v1/keys", {"profile": "no-such"})
    assert (refused.status_code, refused.json()["data"]["errors"][0]["field"]) == (400, "profile")
    assert ApiKey.objects.filter(name="key").count() == 1


def test_a_picture_is_sent_from_here_where_a_client_can_not_follow_a_redirect(
    client: Client, make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    from generation.api import outputs

    task = finish(make_task())
    store = outputs.get_store("images")
    monkeypatch.setattr(type(store), "url", lambda self, key, seconds: f"https://store.example/{key}")
    path = f"/api/v1/image/task/{task.public_id}/image"
    assert client.get(path).status_code == 302
    direct = client.get(f"{path}?redirect=false")
    assert (direct.status_code, direct["Content-Type"], direct.content[:4]) == (200, "image/webp", b"RIFF")
