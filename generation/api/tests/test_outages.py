"""When Postgres or Redis is away, nothing answers 500: what can be done is done, the rest is 503 with Retry-After."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg2
import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client
from redis import Redis

from fixtures.rows import finish
from generation.accounts import key_cache
from generation.accounts.models import User
from generation.admission import quotas, rates
from generation.catalogue import snapshot
from generation.queue import client as queue_client
from generation.tasks.models import Status, Task
from imagegenx_site import caches, redis_clients

GENERATE = "/api/v1/image/generate"
READS = ("task/{task}", "tasks", "task/{task}/image", "batch/bat{digits}")
OTHERS = ("models", "styles", "plans", "usage", "keys", "webhooks", "lora")
ClientOf = Callable[..., Client]
pytestmark = pytest.mark.django_db(transaction=True)


def post(client: Client) -> Any:
    return client.post(GENERATE, json.dumps({"text": "a red circle"}), content_type="application/json")


def forget_everything() -> None:
    key_cache.clear()
    snapshot.reload()
    for key in list(redis_clients.text_client().scan_iter("gx:cache:*", count=1000)):
        redis_clients.text_client().delete(key)


@pytest.fixture
def no_postgres() -> Iterator[Callable[[], None]]:
    """Call it, and no connection to Postgres can be made any more."""
    before = connection.settings_dict["PORT"]

    def end() -> None:
        connection.close()
        connection.settings_dict["PORT"] = "1"

    yield end
    connection.close()
    connection.settings_dict["PORT"] = before


def assert_out_of_reach(answer: Any) -> None:
    assert (answer.status_code, answer["Retry-After"]) == (503, "2"), answer.content
    body = answer.json()
    assert (body["code"], body["data"]["errors"][0]["code"]) == (503, "busy")
    assert body["data"]["request_id"]


@pytest.mark.parametrize("known", [True, False])
def test_without_postgres_a_submission_is_503_and_costs_no_quota(
    client_of: ClientOf, owner: User, no_postgres: Any, known: bool
) -> None:
    client = client_of(owner)
    assert post(client).status_code == 202
    opened = redis_clients.text_client().zcard(f"rl:open:{owner.pk}")
    if not known:
        forget_everything()
    no_postgres()
    assert_out_of_reach(post(client))
    assert redis_clients.text_client().zcard(f"rl:open:{owner.pk}") == opened


@pytest.mark.parametrize("known", [True, False])
def test_without_postgres_reads_are_answered_from_the_cache_or_503(
    client_of: ClientOf, owner: User, make_task: Callable[..., Task], no_postgres: Any, known: bool
) -> None:
    client, task = client_of(owner), finish(make_task())
    paths = [f"image/{path}".format(task=task.public_id, digits=task.id.hex) for path in READS]
    addresses = [f"/api/v1/{path}" for path in (*paths, *OTHERS)]
    before = [client.get(address).status_code for address in addresses]
    assert set(before) <= {200, 404}
    if not known:
        forget_everything()
    no_postgres()
    answers = {address: client.get(address) for address in addresses}
    for answer in answers.values():
        if answer.status_code != 200:
            assert_out_of_reach(answer)
    assert answers[addresses[0]].status_code == (200 if known else 503)
    assert answers["/api/v1/usage"].status_code == 503


def test_a_connection_that_ends_in_the_middle_of_a_submission_is_503_and_the_next_one_works(
    client_of: ClientOf, owner: User
) -> None:
    client = client_of(owner)
    post(client)
    killed: list[bool] = []

    def kill(execute: Any, sql: str, *rest: Any) -> Any:
        if not killed:
            killed.append(terminate(connection.connection.info.backend_pid))
        return execute(sql, *rest)

    with connection.execute_wrapper(kill):
        assert_out_of_reach(post(client))
    assert killed == [True]
    begin_request()
    assert post(client).status_code == 202
    assert Task.objects.count() == 2


def test_a_connection_that_ended_between_requests_is_made_anew(client_of: ClientOf, owner: User) -> None:
    client = client_of(owner)
    post(client)
    terminate(connection.connection.info.backend_pid)
    deadline = time.monotonic() + 10
    while connection.is_usable() and time.monotonic() < deadline:
        time.sleep(0.01)
    begin_request()
    assert post(client).status_code == 202


def begin_request() -> None:
    """What Django does with the connection before each request; the test's client leaves it out."""
    connection.close_if_unusable_or_obsolete()


def terminate(backend: int) -> bool:
    """End another connection's server process, as an administrator or a restart does, and wait until it is gone."""
    other = psycopg2.connect(**connection.get_connection_params())
    with contextlib.closing(other), other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [backend])
        return bool(cursor.fetchone()[0])


@pytest.fixture
def no_redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No connection to Redis can be made."""
    getters = (
        redis_clients.text_client,
        redis_clients.bytes_client,
        caches.keys,
        caches.tasks,
        quotas._script,
        rates._script,
        queue_client._script,
    )

    def fresh() -> None:
        for getter in getters:
            getter.cache_clear()

    redis_clients.text_client().connection_pool.disconnect()
    with monkeypatch.context() as patch:
        patch.setattr(django_settings, "REDIS_URL", "redis://127.0.0.1:1/0")
        nowhere = Redis.from_url("redis://127.0.0.1:1/0")
        patch.setattr(redis_clients, "cache_client", lambda: nowhere)
        fresh()
        yield
    fresh()
    rates._paused_until = 0.0


def test_without_redis_tasks_are_taken_and_shown(client_of: ClientOf, owner: User, no_redis: None) -> None:
    client = client_of(owner)
    began = time.monotonic()
    answer = post(client)
    assert (answer.status_code, answer.json()["data"]["status"]) == (202, "queued")
    task = Task.objects.get()
    assert client.get(f"/api/v1/image/task/{task.public_id}").status_code == 200
    assert client.post(f"/api/v1/image/task/{task.public_id}/cancel").json()["data"]["status"] == "canceled"
    assert client.get("/api/v1/image/tasks").status_code == 200
    assert time.monotonic() - began < 20


def test_who_waits_for_a_task_hears_of_it_after_an_outage_of_postgres(
    live: str, owner: User, key_of: Callable[..., str]
) -> None:
    """All connections of the web process are ended while it waits; it goes on waiting with new ones."""

    def work() -> None:
        deadline = time.monotonic() + 30
        while not Task.objects.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        for backend in backends():
            terminate(backend)
        finish(Task.objects.get())
        connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    headers = {"authorization": f"Bearer {key_of(owner)}", "prefer": "wait=30"}
    answer = httpx.post(f"{live}{GENERATE}", json={"text": "x"}, headers=headers, timeout=60, trust_env=False)
    worker.join()
    connection.close()  # this thread's ended too
    assert (answer.status_code, answer.json()["data"]["status"]) == (200, Status.SUCCEEDED)


def backends() -> list[int]:
    """The server processes of everybody's connections to this database, except this thread's."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return [row[0] for row in cursor.fetchall()]
