"""From which day on repeated looks for open tasks read the rows."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from generation.tasks import open_tasks, partitions, states
from generation.tasks.models import Task
from generation.tasks.open_tasks import RecentDays
from imagegenx_site.ids import uuid7

EVERY = UUID(int=0)
MakeTask = Callable[..., Task]


def id_of(days_ago: int) -> UUID:
    return uuid7(int((datetime.now(UTC) - timedelta(days=days_ago)).timestamp() * 1000))


def test_looks_leave_out_old_days_except_the_first_ones_of_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(open_tasks.time, "monotonic", lambda: now)
    days = RecentDays(timedelta(days=3), in_a_row=2)
    looks = [days.first_id() for _ in range(4)]
    assert looks[:2] == [EVERY, EVERY]
    assert all(id_of(4) < first < id_of(2) for first in looks[2:])
    now += 61
    assert [days.first_id() == EVERY for _ in range(3)] == [True, True, False]


def test_a_look_at_recent_days_plans_no_older_partition(seeded: None) -> None:
    today = datetime.now(UTC).date()
    partitions.ensure(today - timedelta(days=9), 10)
    recent = Task.objects.filter(status="queued", id__gte=open_tasks.first_recent_id())
    planned = json.dumps(json.loads(recent.explain(format="json")))
    found = [back for back in range(10) if f"generation_task_{today - timedelta(days=back):%Y%m%d}" in planned]
    assert found == [0, 1, 2]


def test_what_an_outage_of_days_left_expires(seeded: None, make_task: MakeTask) -> None:
    day = datetime.now(UTC).date() - timedelta(days=5)
    partitions.ensure(day, 1)
    late = datetime.now(UTC) - timedelta(days=4)
    task = make_task(id=id_of(5), expires_at=late)
    assert states.expire_due(open_tasks.first_recent_id()) == []
    assert states.expire_due(RecentDays().first_id()) == [task.pk]
