"""What the tests of this package begin with: a seeded database, people of every kind, and a way to make tasks."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from generation import catalogue, partitions
from generation.models import ApiKey, ImageModel, Plan, Status, Task, Team, User
from generation.parameters import Parameters
from generation.uuid7 import moment_of, uuid7


@pytest.fixture
def seeded(db: None) -> None:
    """The built-in plans, models and styles, and partitions for today."""
    call_command("seed", verbosity=0)
    partitions.ensure(datetime.now(UTC).date(), 2)
    catalogue.forget()


@pytest.fixture
def make_user(seeded: None) -> Callable[..., User]:
    """Makes a user in a team of its own, or in the named one."""

    def make(name: str, team: str = "", plan: str = "paid") -> User:
        row, _ = Team.objects.get_or_create(name=team or name, defaults={"plan": Plan.objects.get(name=plan)})
        return User.objects.create(username=name, team=row)

    return make


@pytest.fixture
def owner(make_user: Callable[..., User]) -> User:
    return make_user("owner", team="shop")


@pytest.fixture
def make_task(owner: User) -> Callable[..., Task]:
    """Makes a task row in any state, as if it had come that far."""

    def make(status: str = Status.QUEUED, **changes: Any) -> Task:
        model = ImageModel.objects.get(name="mini")
        request: dict[str, Any] = {
            "width": 256,
            "height": 256,
            "steps": 4,
            "cfg_scale": 4.0,
            "sampler": "euler",
            "seed": 7,
        }
        parameters = Parameters(kind="text2img", text="red circle", negative_text="", **request)
        task_id = changes.pop("id", None) or uuid7()
        fields: dict[str, Any] = {
            "user": owner,
            "kind": "text2img",
            "status": status,
            "model": model,
            "model_key": model.key,
            "text": "red circle",
            "params": parameters.to_json(),
            "width": 256,
            "height": 256,
            "batch_key": parameters.batch_key(model.key),
            "created_at": moment_of(task_id),
            "expires_at": timezone.now() + timedelta(minutes=5),
        }
        return Task.objects.create(id=task_id, **(fields | changes))

    return make


@pytest.fixture
def key_of(seeded: None) -> Callable[..., str]:
    """A new API key of a user, as text."""

    def make(user: User, **fields: Any) -> str:
        return ApiKey.make(user, **fields)[1]

    return make


@pytest.fixture
def client_of(key_of: Callable[..., str]) -> Callable[..., Client]:
    """An HTTP client that sends a key of the user."""

    def make(user: User, **fields: Any) -> Client:
        return Client(headers={"authorization": f"Bearer {key_of(user, **fields)}"})

    return make
