"""The end of a day: its objects, rows and partitions go together."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from threading import Thread
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from fixtures.rows import keep_picture
from generation.tasks import partitions
from generation.tasks.models import Batch, Image, Task
from generation.tasks.tests.test_partitions import id_on
from generation.webhooks.models import Delivery, WebhookEndpoint
from imagegenx_site.ids import derived, first_id_of
from storage.archive import move_to_archive
from storage.drivers import DiskDriver
from storage.errors import StoreUnavailable
from storage.store import get_store
from workers.housekeeping import retention


def today() -> date:
    """When the test runs, not when it was collected: a suite may run over midnight."""
    return datetime.now(UTC).date()


def first_kept() -> date:
    return today() - timedelta(days=settings.HISTORY_DAYS)


MakeTask = Callable[..., Task]
pytestmark = pytest.mark.django_db(transaction=True)  # a table with pending checks can't be dropped


def full_day(make_task: MakeTask, day: date, count: int = 2) -> list[Image]:
    """Tasks of a day, each with a picture, a delivery and a batch."""
    made = []
    for second in range(count):
        batch = Batch.objects.create(id=id_on(day, second), user=make_task().user, size=1)
        task = make_task("succeeded", id=id_on(day, second), batch=batch)
        made.append(keep_picture(task, 0))
        endpoint, _ = WebhookEndpoint.objects.get_or_create(user=task.user, url="")
        fields = {"endpoint": endpoint, "event_id": "e", "event_type": "task.succeeded", "url": "http://x"}
        Delivery.objects.create(id=derived(task.id, "d"), task=task, **fields)
    return made


def stored() -> set[str]:
    return {found.key for found in get_store("images").list("")}


@pytest.fixture
def days(seeded: None) -> list[date]:
    """Three days past their end, with partitions, and the last day that is kept."""
    partitions.ensure(first_kept() - timedelta(days=3), 4)
    return [first_kept() - timedelta(days=back) for back in (3, 2, 1)]


def test_old_days_end_with_all_they_hold_and_younger_ones_stay(days: list[date], make_task: MakeTask) -> None:
    old = [image for day in days for image in full_day(make_task, day)]
    move_to_archive(get_store("images"), old[0].key)
    get_store("images").spool.add(old[1].key.replace("/0-", "/1-"), b"waits in the spool")  # type: ignore[attr-defined]
    kept = full_day(make_task, first_kept())
    ended = retention.end_before(first_kept())
    assert (ended.days, ended.partitions, ended.objects) == (3, 9, 13)
    assert stored() == {key for image in kept for key in (image.key, image.thumbnail_key)}
    assert set(Image.objects.values_list("key", flat=True)) == {image.key for image in kept}
    assert Delivery.objects.count() == len(kept)
    assert Batch.objects.filter(id__lt=first_id_of(days[-1])).count() == 0
    assert all(day >= first_kept() for found in partitions.existing_days().values() for day in found)
    assert retention.end_before(first_kept()) == retention.Ended()


def test_rows_of_a_day_that_never_had_a_partition_end_too(seeded: None, make_task: MakeTask) -> None:
    full_day(make_task, first_kept() - timedelta(days=5))
    assert retention.due(first_kept()) == [first_kept() - timedelta(days=5)]
    assert retention.end_before(first_kept()).objects == 4
    assert stored() == set()
    assert not Image.objects.exists()


def test_while_the_store_is_away_rows_stay_and_the_next_run_ends_them(
    days: list[date], make_task: MakeTask, monkeypatch: Any
) -> None:
    images = full_day(make_task, days[0])
    deleting = DiskDriver.delete

    def refuse(self: DiskDriver, key: str) -> None:
        if key == images[1].key:
            raise StoreUnavailable("away")
        deleting(self, key)

    monkeypatch.setattr(DiskDriver, "delete", refuse)
    with pytest.raises(StoreUnavailable):
        retention.end_before(first_kept())
    assert Task.objects.filter(pk=images[1].task_id).exists()
    assert images[1].key in stored()
    monkeypatch.undo()
    assert retention.end_before(first_kept()).days == 3
    assert stored() == set()


def test_what_is_made_of_an_old_picture_meanwhile_goes_as_well(
    days: list[date], make_task: MakeTask, monkeypatch: Any
) -> None:
    """Somebody asks for the medium variant while the day ends."""
    [image] = full_day(make_task, days[0], 1)
    dropping = partitions.drop_before

    def late(day: date) -> list[str]:
        if day == days[0] + timedelta(days=1):
            get_store("images").put(image.key.replace("images/", "medium/"), b"late")
        return dropping(day)

    monkeypatch.setattr(partitions, "drop_before", late)
    retention.end_before(first_kept())
    assert stored() == set()


def test_two_runs_at_once_do_not_meet(days: list[date], make_task: MakeTask) -> None:
    full_day(make_task, days[0])
    answers: list[retention.Ended] = []

    def run() -> None:
        answers.append(retention.end_before(first_kept()))
        connection.close()

    threads = [Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(ended.partitions for ended in answers) == 9
    assert stored() == set()


def test_afterwards_the_check_finds_no_difference(days: list[date], make_task: MakeTask, capsys: Any) -> None:
    full_day(make_task, days[0])
    full_day(make_task, first_kept())
    call_command("partitions", drop=True)
    assert "dropped 9 with 4 objects" in capsys.readouterr().out
    call_command("check_storage", days=4, until=datetime.combine(first_kept(), datetime.min.time()))
    assert "4 days checked: no difference" in capsys.readouterr().out
