"""Which models and LoRAs a key may name."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from generation.accounts.models import Plan, Team, User
from generation.catalogue import snapshot
from generation.catalogue.models import ImageModel, Lora
from generation.tasks.models import Task

GENERATE = "/api/v1/image/generate"


@pytest.fixture(autouse=True)
def _catalogue(seeded: None) -> Any:
    yield
    snapshot.reload()


@pytest.fixture
def client(client_of: Callable[..., Client], owner: User) -> Client:
    return client_of(owner)


def ask(client: Client, **params: Any) -> Any:
    body = {"text": "a red circle", "params": params}
    return client.post(GENERATE, body, content_type="application/json")


def message(response: Any) -> str:
    assert response.status_code == 400, response.content
    return str(response.json()["data"]["errors"][0]["message"])


def test_a_known_model_that_is_not_here_is_answered_with_the_command_that_brings_it(client: Client) -> None:
    answer = ask(client, model="sdxl")
    assert "manage.py models pull sdxl --accept-licence" in message(answer)
    assert "params.model" in answer.content.decode()
    assert "There is no model 'sdxxl'" in message(ask(client, model="sdxxl"))


def test_a_model_kept_for_others_is_neither_listed_nor_used(client: Client, owner: User) -> None:
    mini = ImageModel.objects.get(name="mini")
    mini.teams.add(Team.objects.create(name="others", plan=Plan.objects.get(name="free")))
    snapshot.reload()
    listed = [model["name"] for model in client.get("/api/v1/models").json()["data"]["items"]]
    assert listed == ["mini-turbo"]
    assert "There is no model 'mini'" in message(ask(client, model="mini"))
    assert ask(client).status_code == 202
    assert Task.objects.get().drawing_model.name == "mini-turbo"

    assert owner.team
    mini.teams.add(owner.team)
    snapshot.reload()
    assert ask(client, model="mini").status_code == 202


def test_a_lora_kept_for_a_plan_is_neither_listed_nor_used_by_others(client: Client, owner: User) -> None:
    facts = {"sha256": "a" * 64, "source": "lora/outline.safetensors", "base_family": "sd15", "state": "active"}
    lora = Lora.objects.create(name="house-style", **facts)
    assert ask(client, loras=["house-style"]).status_code == 202
    lora.plans.add(Plan.objects.create(name="gold", title="Gold"))
    assert "no such active LoRA" in message(ask(client, loras=["house-style"]))
    assert not client.get("/api/v1/lora").json()["data"]["items"]
    assert owner.team
    lora.plans.add(owner.team.plan)
    assert ask(client, loras=["house-style"]).status_code == 202
