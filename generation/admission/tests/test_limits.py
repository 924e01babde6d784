"""Limits are exact under concurrency, every answer says what is left, and an outage of Redis refuses nothing."""

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import redis
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client

from fixtures.rows import finish
from generation.accounts.models import ApiKey, Plan, User
from generation.admission import quotas, rates
from generation.tasks import open_tasks
from generation.tasks.models import Task
from imagegenx_site import redis_clients
from imagegenx_site.ids import uuid7

ClientOf = Callable[..., Client]
GENERATE = "/api/v1/image/generate"


def post(client: Client, body: Any = None, **headers: str) -> Any:
    text = json.dumps(body or {"text": "a red circle"})
    return client.post(GENERATE, text, content_type="application/json", headers=headers)


def limit(user: User, **changes: Any) -> Plan:
    assert user.team
    plan = Plan.objects.get(pk=user.team.plan_id)
    for name, value in changes.items():
        setattr(plan, name, value)
    plan.save()
    return plan


@pytest.fixture
def redis_unreachable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Redis is unreachable."""
    client = redis.Redis.from_url("redis://127.0.0.1:1/0", decode_responses=True, socket_connect_timeout=0.2)
    monkeypatch.setattr(redis_clients, "text_client", lambda: client)
    quotas._script.cache_clear()
    rates._script.cache_clear()
    yield
    quotas._script.cache_clear()
    rates._script.cache_clear()
    rates._paused_until = 0.0


def test_exactly_10_of_100_concurrent_calls_are_admitted(owner: User) -> None:
    plan = limit(owner, concurrent_tasks=10)

    def ask(_: int) -> str:
        try:
            quotas.admit(owner, plan, [uuid7()], images=1, megapixel_steps=1, look_up=open_tasks.look_up)
        except quotas.TooManyRequests:
            return "refused"
        return "admitted"

    quotas.admit(owner, plan, [], images=0, megapixel_steps=0, look_up=open_tasks.look_up)
    redis_clients.text_client().zadd(f"rl:open:{owner.pk}", {str(uuid7()): time.time() * 1000})
    with ThreadPoolExecutor(20) as pool:
        outcomes = Counter(pool.map(ask, range(100)))
    assert outcomes == {"admitted": 9, "refused": 91}


@pytest.mark.parametrize("what", ["images", "work"])
def test_a_daily_quota_is_exact_under_concurrency(owner: User, what: str) -> None:
    plan = limit(owner, concurrent_tasks=None, daily_images=10, daily_megapixel_steps=None)
    if what == "work":
        plan = limit(owner, daily_images=None, daily_megapixel_steps=5)

    def ask(_: int) -> bool:
        try:
            quotas.admit(owner, plan, [uuid7()], images=1, megapixel_steps=0.5, look_up=open_tasks.look_up)
        except quotas.TooManyRequests:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(ask, range(100))) == 10


def test_requests_per_second_are_exact_under_concurrency(settings: Any) -> None:
    settings.RATE_WINDOW_S = 30

    def ask(_: int) -> bool:
        try:
            rates.hit([("key", "one")], 1)
        except rates.TooManyRequests:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(ask, range(100))) == 30


def test_every_answer_says_what_is_left(client_of: ClientOf, owner: User) -> None:
    limit(owner, requests_per_second=50, concurrent_tasks=7, daily_images=20)
    response = post(client_of(owner))
    assert (
        response["RateLimit-Policy"] == '"ip";q=50;w=1, "key";q=50;w=1, "concurrent";q=7, "daily-images";q=20;w=86400'
    )
    assert response["RateLimit"].startswith('"ip";r=49;t=1, "key";r=49;t=1, "concurrent";r=6, "daily-images";r=19;t=')


def test_too_many_requests_a_second_are_429_with_retry_after(client_of: ClientOf, owner: User, settings: Any) -> None:
    limit(owner, requests_per_second=1)
    settings.RATE_WINDOW_S = 5
    client = client_of(owner)
    statuses = Counter(client.get("/api/v1/styles").status_code for _ in range(8))
    assert statuses == {200: 5, 429: 3}
    response = client.get("/api/v1/styles")
    assert (response["Retry-After"], response.json()["data"]["errors"][0]["code"]) == ("5", "rate_limited")
    assert response["RateLimit"] == '"ip";r=0;t=5, "key";r=0;t=5'


def test_an_ended_task_makes_room_for_another(client_of: ClientOf, owner: User) -> None:
    limit(owner, concurrent_tasks=2)
    client = client_of(owner)
    assert [post(client).status_code for _ in range(3)] == [202, 202, 429]
    finish(Task.objects.latest("id"))
    redis_clients.text_client().delete(f"rl:seen:{owner.pk}")
    assert [post(client).status_code for _ in range(2)] == [202, 429]


def test_open_tasks_are_counted_again_after_redis_was_emptied(client_of: ClientOf, owner: User) -> None:
    limit(owner, concurrent_tasks=2)
    client = client_of(owner)
    assert [post(client).status_code for _ in range(2)] == [202, 202]
    redis_clients.text_client().delete(f"rl:open:{owner.pk}", f"rl:seen:{owner.pk}")
    assert post(client).status_code == 429


def test_a_row_written_during_the_comparison_stays_counted(owner: User, make_task: Callable[..., Task]) -> None:
    """Its id is known to Redis, its row appears between the comparison's two looks into Postgres."""
    plan, task_id, looks = limit(owner, concurrent_tasks=1), uuid7(), []
    quotas.admit(owner, plan, [task_id], images=1, megapixel_steps=1, look_up=open_tasks.look_up)

    def write_after_first_look(execute: Any, sql: str, *rest: Any) -> Any:
        answer = execute(sql, *rest)
        if sql.startswith("SELECT") and '"generation_task"' in sql:
            looks.append(sql)
            if len(looks) == 1:
                make_task(id=task_id)
        return answer

    redis_clients.text_client().delete(f"rl:seen:{owner.pk}")
    with connection.execute_wrapper(write_after_first_look), pytest.raises(quotas.TooManyRequests):
        quotas.admit(owner, plan, [uuid7()], images=1, megapixel_steps=1, look_up=open_tasks.look_up)
    assert len(looks) == 2


def test_failed_and_repeated_requests_are_not_counted(client_of: ClientOf, owner: User) -> None:
    limit(owner, daily_images=3)
    client = client_of(owner)
    assert post(client, {"text": "x", "params": {"num_images": 4}}).status_code == 429
    assert post(client, {"text": ""}).status_code == 400
    assert [post(client, idempotency_key="once").status_code for _ in range(4)] == [202] * 4
    assert post(client, {"text": "x", "params": {"num_images": 2}}).status_code == 202
    assert post(client).status_code == 429
    assert Task.objects.count() == 2


def test_everything_is_admitted_while_redis_is_unreachable(
    redis_unreachable: None, client_of: ClientOf, owner: User
) -> None:
    limit(owner, requests_per_second=1, concurrent_tasks=1, daily_images=1)
    client = client_of(owner)
    began = time.monotonic()
    assert [post(client).status_code for _ in range(3)] == [202] * 3
    assert time.monotonic() - began < 10
    assert Task.objects.count() == 3


def test_guessing_keys_is_slowed_down(seeded: None, settings: Any) -> None:
    settings.ANONYMOUS_RPS, settings.RATE_WINDOW_S = 1, 5
    client = Client(headers={"authorization": "Bearer igx_0000000000_guess"})
    assert Counter(client.get("/api/v1/styles").status_code for _ in range(8)) == {401: 5, 429: 3}


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "address"),
    [
        ("192.0.2.1", "198.51.100.7", 0, "192.0.2.1"),
        ("192.0.2.1", "203.0.113.9, 198.51.100.7", 1, "198.51.100.7"),
        ("192.0.2.1", "203.0.113.9, 198.51.100.7", 2, "203.0.113.9"),
        ("192.0.2.1", "198.51.100.7", 5, "198.51.100.7"),
        ("192.0.2.1", "", 1, "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "", 0, "2001:db8:1:2::"),
        ("testclient", "", 0, "unknown"),
    ],
)
def test_client_address(rf: Any, settings: Any, peer: str, forwarded: str, proxies: int, address: str) -> None:
    settings.TRUSTED_PROXIES = proxies
    headers = {"x-forwarded-for": forwarded} if forwarded else {}
    assert rates.client_address(rf.get("/", REMOTE_ADDR=peer, headers=headers)) == address


@pytest.fixture
def two_processes(transactional_db: None, seeded: None) -> Iterator[list[str]]:
    """Two web processes of the product on the test's database: their addresses."""
    database = django_settings.DATABASES["default"]
    name = connection.settings_dict["NAME"]
    who = f"{database['USER']}:{database['PASSWORD']}@" if database["PASSWORD"] else f"{database['USER']}@"
    url = f"postgres://{who}{database['HOST']}:{database['PORT']}/{name}"
    environment = {**os.environ, "DATABASE_URL": url, "WEB_THREADS": "4", "LOG_LEVEL": "ERROR"}
    ports = [free_port() for _ in range(2)]
    command = [sys.executable, "-m", "uvicorn", "imagegenx_site.asgi:application", "--log-level", "error", "--port"]
    processes = [subprocess.Popen([*command, str(port)], env=environment) for port in ports]
    try:
        for port in ports:
            wait_for(port)
        yield [f"http://127.0.0.1:{port}" for port in ports]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline, "the web process did not start"
            time.sleep(0.1)
        else:
            return


def test_exactly_10_of_100_calls_to_two_processes_are_admitted(
    two_processes: list[str], owner: User, key_of: Callable[..., str]
) -> None:
    limit(owner, concurrent_tasks=10, requests_per_second=1000)
    headers = {"authorization": f"Bearer {key_of(owner)}"}

    def ask(number: int) -> int:
        address = two_processes[number % 2] + GENERATE
        return httpx.post(
            address, json={"text": "a red circle"}, headers=headers, timeout=60, trust_env=False
        ).status_code

    with ThreadPoolExecutor(20) as pool:
        assert Counter(pool.map(ask, range(100))) == {202: 10, 429: 90}
    assert (Task.objects.count(), ApiKey.objects.count()) == (10, 1)
