"""The task table is partitioned by day: what is made, what is touched by a query, what is dropped."""

import json
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import psycopg2
import pytest
from django.db import connection
from django.db.models import QuerySet

from fixtures.fleet import wait_until
from generation.accounts.models import User
from generation.tasks import partitions
from generation.tasks.models import Image, Task
from imagegenx_site.ids import derived, first_id_of, from_public, image_id, moment_of, to_public, uuid7

MakeTask = Callable[..., Task]


def today() -> date:
    """When the test runs, not when it was collected: a suite may run over midnight."""
    return datetime.now(UTC).date()


def id_on(day: date, seconds: int = 43200):
    moment = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=seconds)
    return uuid7(int(moment.timestamp() * 1000))


def scanned(query: QuerySet) -> set[str]:
    """The tables that Postgres reads for the query, by its own plan after running it."""
    plan = json.loads(query.explain(format="json", analyze=True))

    def relations(node: dict) -> set[str]:
        ran = node.get("Actual Loops", 1) > 0
        own = {node["Relation Name"]} if "Relation Name" in node and ran else set()
        return own.union(*(relations(child) for child in node.get("Plans", [])))

    return relations(plan[0]["Plan"])


@pytest.fixture
def week(seeded: None) -> list[date]:
    days = [today() - timedelta(days=back) for back in range(7)]
    partitions.ensure(days[-1], 7)
    return days


def test_one_task_is_found_in_one_partition(week: list[date], make_task: MakeTask) -> None:
    task = make_task(id=id_on(week[3]))
    assert scanned(Task.objects.filter(pk=task.pk)) == {f"generation_task_{week[3]:%Y%m%d}"}


def test_my_last_twenty_reads_only_the_days_asked_for(week: list[date], make_task: MakeTask, owner: User) -> None:
    for day in week:
        make_task(id=id_on(day))
    asked = Task.objects.filter(user=owner, id__gte=first_id_of(week[2]), id__lt=first_id_of(week[0])).order_by("-id")[
        :20
    ]
    assert len(asked) == 2
    assert scanned(asked) == {f"generation_task_{day:%Y%m%d}" for day in week[1:3]}


def test_the_newest_twenty_stop_at_the_first_day_that_fills_them(
    week: list[date], make_task: MakeTask, owner: User
) -> None:
    for second in range(25):
        make_task(id=id_on(week[0], second))
    make_task(id=id_on(week[5]))
    newest = Task.objects.filter(
        user=owner, id__gte=first_id_of(week[-1]), id__lt=first_id_of(today() + timedelta(days=1))
    )
    with connection.cursor() as cursor:  # as in tables too large to sort
        cursor.execute("SET LOCAL enable_sort = off")
    assert scanned(newest.order_by("-id")[:20]) == {f"generation_task_{week[0]:%Y%m%d}"}


def test_rows_of_a_day_without_partition_wait_in_default_and_move_when_it_is_made(
    seeded: None, make_task: MakeTask
) -> None:
    day = today() - timedelta(days=40)
    task = make_task(id=id_on(day))
    Image.objects.create(
        id=image_id(task.id, 0), task=task, index=0, seed=1, key="k", format="webp", width=1, height=1, bytes=1
    )
    assert scanned(Task.objects.filter(pk=task.pk)) == {"generation_task_default"}
    assert len(partitions.ensure(day, 1)) == 3
    assert scanned(Task.objects.filter(pk=task.pk)) == {f"generation_task_{day:%Y%m%d}"}
    assert Image.objects.get(task=task).index == 0


def test_making_twice_changes_nothing(week: list[date]) -> None:
    assert partitions.ensure(week[-1], 7) == []


def test_old_days_are_dropped_with_their_pictures_and_newer_ones_stay(week: list[date], make_task: MakeTask) -> None:
    old, kept = make_task(id=id_on(week[6])), make_task(id=id_on(week[0]))
    Image.objects.create(
        id=image_id(old.id, 0), task=old, index=0, seed=1, key="k", format="webp", width=1, height=1, bytes=1
    )
    # a dropped table can't have checks waiting for the end of the test's transaction
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    partitions.drop_before(week[0])
    assert list(Task.objects.values_list("pk", flat=True)) == [kept.pk]
    assert all(min(days) >= week[0] for days in partitions.existing_days().values())


def test_ids_are_ordered_by_time_and_read_back() -> None:
    ids = [uuid7(ms) for ms in (1_000, 2_000, 3_000)]
    assert ids == sorted(ids)
    assert [moment_of(one).timestamp() for one in ids] == [1.0, 2.0, 3.0]
    assert all(one.version == 7 for one in ids)
    assert from_public(to_public(ids[0])) == ids[0]


@pytest.mark.parametrize(
    "text", ["", "img", "img" + "0" * 32, "img" + "g" * 32, "x" * 35, "img" + "0" * 33, "img٣" + "0" * 31]
)
def test_a_text_that_is_no_task_id_is_none(text: str) -> None:
    assert from_public(text) is None


def test_derived_ids_share_the_partition_of_their_parent_and_are_one_for_each_purpose() -> None:
    task_id = uuid7()
    assert derived(task_id, "a") == derived(task_id, "a") != derived(task_id, "b")
    assert moment_of(derived(task_id, "a")) == moment_of(image_id(task_id, 3)) == moment_of(task_id)
    assert len({image_id(task_id, index) for index in range(100)}) == 100


@pytest.mark.django_db(transaction=True)
def test_a_request_that_crosses_the_making_of_partitions_is_not_ended_as_a_deadlock() -> None:
    """It has read pictures and asks for tasks, while the task's partition is attached and the pictures' one waits."""
    day = today() + timedelta(days=40)
    with closing(psycopg2.connect(**connection.get_connection_params())) as request, request.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM generation_image_default")
        answers: list[int] = []
        asking = threading.Thread(target=_ask_for_tasks, args=(request, answers))
        asking.start()
        made = partitions.ensure(day, 1)
        asking.join()
    assert made == [f"{table}_{day:%Y%m%d}" for table in partitions.TABLES]
    assert answers == [0]


def _ask_for_tasks(request: psycopg2.extensions.connection, answers: list[int]) -> None:
    """Once somebody waits for a lock."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
    with request.cursor() as cursor:
        wait_until(lambda: _number(cursor, waiting), 10)
        answers.append(_number(cursor, "SELECT count(*) FROM generation_task_default"))
    request.commit()


def _number(cursor: psycopg2.extensions.cursor, query: str) -> int:
    cursor.execute(query)
    (number,) = cursor.fetchone() or (0,)
    return int(number)
