"""A model that is kept for another plan is neither listed nor taken at any of the compatible doors."""

from collections.abc import Callable

import pytest
from django.test import Client

from generation.accounts.models import Plan, User
from generation.catalogue import snapshot
from generation.catalogue.models import ImageModel

LISTS = (
    "/v1/models",
    "/sdapi/v1/sd-models",
    "/object_info/CheckpointLoaderSimple",
    "/models/checkpoints",
    "/api/v2/status/models",
)


@pytest.fixture
def client(key_of: Callable[..., str], owner: User) -> Client:
    key = key_of(owner)
    return Client(headers={"authorization": f"Bearer {key}"})


@pytest.fixture
def kept(able_model: ImageModel) -> ImageModel:
    able_model.plans.set([Plan.objects.create(name="studio", title="Studio")])
    snapshot.reload()
    return able_model


@pytest.mark.parametrize("path", LISTS)
def test_no_door_lists_it(client: Client, kept: ImageModel, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert "mini" in answer.content.decode()
    assert '"able' not in answer.content.decode()


def test_no_door_takes_it(client: Client, kept: ImageModel) -> None:
    body = {"model": "able", "prompt": "x"}
    assert client.post("/v1/images/generations", body, "application/json").status_code == 404
    ask = {"prompt": "x", "models": ["able"], "params": {"width": 256, "height": 256}}
    assert client.post("/api/v2/generate/async", ask, "application/json").status_code == 400
