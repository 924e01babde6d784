"""The overview: what it counts, that it stays quick, and that it is there while Redis is away."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from redis.exceptions import ConnectionError as RedisGone

from generation.accounts.models import User
from generation.admin import overview
from generation.tasks.models import Status, Task, UsageDay
from generation.telemetry import throughput
from generation.telemetry.models import Alert
from imagegenx_site import redis_clients

PATH = "/admin/generation/task/overview/"
NOON = datetime.now(UTC).replace(hour=12, minute=30, second=30)


@pytest.fixture
def staff(owner: User) -> Client:
    User.objects.create_superuser("root", password="a long password")
    client = Client()
    assert client.login(username="root", password="a long password")
    throughput._kept.drop()
    return client


def test_it_counts_what_ended_and_why(owner: User, make_task: Callable[..., Task]) -> None:
    def ended(minutes: float, status: Status = Status.SUCCEEDED, code: str = "") -> None:
        make_task(status, finished_at=NOON - timedelta(minutes=minutes), error_code=code)

    for minutes in (0.1, 0.2, 10, 90):
        ended(minutes)
    ended(10, Status.FAILED, "not_finite")
    ended(10, Status.FAILED, "not_finite")
    ended(90, Status.EXPIRED)
    make_task()
    gone = NOON.date() - timedelta(days=2)
    facts = {"user": owner, "model_name": "mini", "kind": "text2img", "images": 9, "megapixel_steps": 1}
    UsageDay.objects.create(day=gone, tasks=9, succeeded=7, **facts)
    found = throughput.read(NOON)
    assert found.complete
    assert [len(part) for part in (found.hour, found.day, found.week)] == [60, 24, 7]
    assert (found.hour[-1].succeeded, found.hour[-1].others) == (2, 0)
    assert (found.hour[-11].succeeded, found.hour[-11].others) == (1, 2)
    assert sum(one.succeeded for one in found.hour) == 3
    assert [(one.succeeded, one.others) for one in found.day[-2:]] == [(1, 1), (3, 2)]
    assert [(one.succeeded, one.others) for one in found.week[-3:]] == [(7, 2), (0, 0), (4, 3)]
    assert found.reasons == [("not_finite", 2), ("expired", 1)]


def test_a_statement_that_takes_too_long_is_given_up(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(_: Any) -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(5)")
        return []

    monkeypatch.setattr(throughput, "STATEMENT_MS", 50)
    monkeypatch.setattr(throughput, "_hour", slow)
    assert not throughput.read(NOON).complete
    assert Task.objects.count() == 0, "the connection is usable"


def test_an_operator_sees_workers_models_alerts_and_plots(
    staff: Client, make_task: Callable[..., Task], django_assert_max_num_queries: Callable[..., Any]
) -> None:
    redis = redis_clients.text_client()
    redis.zadd("gq:lease", {"gpu1-x": datetime.now(UTC).timestamp() * 1000 + 60_000})
    redis.set("gq:models:gpu1-x", '["mini@1", "sdxl@base"]')
    Alert.objects.create(kind=Alert.Kind.WORKER_LOST, worker="gpu7", message="went <b>silent</b>")
    make_task(Status.SUCCEEDED, finished_at=datetime.now(UTC))
    with django_assert_max_num_queries(20):
        page = staff.get(PATH).content.decode()
    for text in ("gpu1-x", "mini@1, sdxl@base", "gpu7", "P0 urgent", "Last week, by day", "1 succeeded"):
        assert text in page
    assert "went <b>" not in page
    assert page.count("<svg viewBox") == 3
    assert 'height="120.0"' in page
    assert PATH in staff.get("/admin/").content.decode()
    redis.delete("gq:lease", "gq:models:gpu1-x")


def test_without_redis_it_shows_what_postgres_knows(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise RedisGone("refused")

    monkeypatch.setattr(overview.queues, "queues", gone)
    page = staff.get(PATH).content.decode()
    assert "Redis is unreachable" in page
    assert "Failures of the last 24 hours" in page


def test_who_may_not_see_tasks_does_not_see_it(owner: User) -> None:
    User.objects.create_user("clerk", password="a long password", is_staff=True)
    client = Client()
    client.login(username="clerk", password="a long password")
    assert client.get(PATH).status_code == 403
    assert Client().get(PATH).status_code == 302
