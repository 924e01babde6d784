"""What requests cost: queries to Postgres and round trips to Redis, stated and held to."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from redis.connection import AbstractConnection

from fixtures.rows import finish
from generation.accounts import key_cache
from generation.accounts.models import User
from generation.tasks.models import Task

MakeTask = Callable[..., Task]
GENERATE = "/api/v1/image/generate"
pytestmark = pytest.mark.django_db(transaction=True)


@dataclass
class Cost:
    """What a request asked of the servers."""

    queries: int = 0
    trips: int = 0


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cost]:
    cost, send = Cost(), AbstractConnection.send_packed_command

    def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
        cost.trips += 1
        return send(self, *args, **kwargs)

    with monkeypatch.context() as patch, CaptureQueriesContext(connection) as captured:
        patch.setattr(AbstractConnection, "send_packed_command", counting)
        yield cost
    cost.queries = len(captured)


@pytest.fixture
def client(client_of: Callable[..., Client], owner: User) -> Client:
    return client_of(owner)


def submit(client: Client, **headers: str) -> Any:
    body = json.dumps({"text": "a red circle", "params": {"style": "cartoon"}})
    answer = client.post(GENERATE, body, content_type="application/json", headers=headers)
    assert answer.status_code == 202
    return answer


def test_a_submission_is_one_insert_and_three_trips(client: Client, monkeypatch: Any) -> None:
    """Its limits of requests; its quotas; buffer, ticket and estimate in one."""
    submit(client)
    with counted(monkeypatch) as cost:
        submit(client)
    assert cost == Cost(queries=1, trips=3)


def test_an_idempotent_submission_adds_its_own_row(client: Client, monkeypatch: Any) -> None:
    """The look for an earlier one, begin, the key's row, the task's, commit."""
    submit(client, **{"idempotency-key": "first"})
    with counted(monkeypatch) as cost:
        submit(client, **{"idempotency-key": "second"})
    assert cost == Cost(queries=5, trips=3)


def test_a_batch_of_a_hundred_costs_hardly_more_than_one_task(client: Client, monkeypatch: Any) -> None:
    """Begin, the batch, all tasks, commit; their tickets in one trip, and one to see that Redis has the script."""
    body = {"texts": [f"text {number}" for number in range(100)], "params": {"resolution": "256x256", "steps": 1}}
    submit(client)
    with counted(monkeypatch) as cost:
        answer = client.post("/api/v1/image/batch-generate", json.dumps(body), content_type="application/json")
    assert (answer.status_code, len(answer.json()["data"]["tasks"])) == (202, 100)
    assert cost.queries <= 5
    assert cost.trips <= 6


def test_polls_cost_two_trips_and_no_query(client: Client, make_task: MakeTask, monkeypatch: Any) -> None:
    """Its limits of requests, and the cached body; the first look at a task makes that."""
    for task in (make_task(), finish(make_task())):
        address = f"/api/v1/image/task/{task.public_id}"
        etag = client.get(address)["ETag"]
        for headers, status in (({}, 200), ({"if-none-match": etag}, 304)):
            with counted(monkeypatch) as cost:
                assert client.get(address, headers=headers).status_code == status
            assert cost == Cost(queries=0, trips=2)


def test_a_kept_key_is_looked_up_again_after_a_moment(client: Client, monkeypatch: Any, settings: Any) -> None:
    """Then Redis has it, so that Postgres is asked only after a change."""
    client.get("/api/v1/styles")
    settings.KEY_KEPT_S = 0
    with counted(monkeypatch) as cost:
        client.get("/api/v1/styles")
    assert cost == Cost(queries=0, trips=2)
    key_cache.clear()
