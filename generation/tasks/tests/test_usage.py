"""Usage agrees with the tasks, also when their day is closed and they are gone; and what a request costs in queries."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from fixtures.rows import finish
from generation.accounts.models import User
from generation.tasks import partitions, usage
from generation.tasks.models import Status, Task, UsageDay
from imagegenx_site.ids import first_id_of, uuid7

MakeTask = Callable[..., Task]


@pytest.fixture
def client(client_of: Callable[..., Client], owner: User) -> Client:
    return client_of(owner)


def test_usage_is_what_the_tasks_say(client: Client, make_task: MakeTask) -> None:
    finish(make_task(cost=2.5))
    make_task(cost=1.0)
    make_task(Status.FAILED, cost=7.0)
    data = client.get("/api/v1/usage").json()["data"]
    today = datetime.now(UTC).date().isoformat()
    line = {"group": today, "tasks": 3, "succeeded": 1, "images": 1, "megapixel_steps": 3.5}
    assert data["items"] == [line]
    assert data["total"] == {name: line[name] for name in ("tasks", "succeeded", "images", "megapixel_steps")}
    by_model = client.get("/api/v1/usage?group_by=model").json()["data"]["items"]
    assert [line["group"] for line in by_model] == ["mini"]


def test_a_closed_day_says_the_same_when_its_tasks_are_gone(owner: User, make_task: MakeTask) -> None:
    day = datetime.now(UTC).date() - timedelta(days=2)
    partitions.ensure(day, 1)
    noon = int((datetime(day.year, day.month, day.day, 12, tzinfo=UTC)).timestamp() * 1000)
    for number in range(3):
        make_task(Status.SUCCEEDED, id=uuid7(noon + number), cost=1.5)
    before = usage.report(owner, day, day)
    assert (before[0].tasks, before[0].megapixel_steps) == (3, 4.5)
    assert usage.close_day(day) == 1
    assert usage.report(owner, day, day) == before
    Task.objects.filter(id__gte=first_id_of(day), id__lt=first_id_of(day + timedelta(days=1))).delete()
    assert usage.report(owner, day, day) == before
    assert usage.close_day(day) == 0, "a day without tasks leaves its ledger as it is"
    assert (usage.report(owner, day, day), UsageDay.objects.count()) == (before, 1)


def test_today_is_not_over(db: None) -> None:
    with pytest.raises(ValueError, match="is not over"):
        usage.close_day(datetime.now(UTC).date())


@pytest.mark.parametrize(
    "query", ["since=2026-02-30", "since=2026-01-02&until=2026-01-01", "since=2020-01-01", "group_by=colour"]
)
def test_wrong_days_are_refused(client: Client, query: str) -> None:
    assert client.get(f"/api/v1/usage?{query}").status_code == 400


def test_nobody_sees_anothers_usage(client: Client, client_of: Any, make_user: Any, make_task: MakeTask) -> None:
    make_task()
    assert client_of(make_user("stranger")).get("/api/v1/usage").json()["data"]["items"] == []
