"""After the GPU the class of a task still decides: real workers, with many tasks waiting before they start."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from celery import signature

from fixtures.fleet import Fleet, all_ended, wait_until
from generation.accounts.models import User
from generation.tasks import stages
from generation.tasks.models import Status, Task
from storage import raw

MakeTask = Callable[..., Task]
PICTURE = cv2.imencode(".png", np.full((64, 64, 3), 90, np.uint8))[1].tobytes()


@pytest.fixture
def owner(user: User) -> User:
    return user


@pytest.fixture
def generated(fleet: Fleet, make_task: MakeTask, settings: Any) -> Callable[[int], Task]:
    """Makes a task of a class that the GPU is done with, where the fleet's workers look for its picture."""
    fleet.only()
    stored = {name: dict(value) for name, value in settings.STORAGES.items()}
    location = {"location": str(fleet.folder / "raw"), "base_url": None}
    stored["raw"] = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": location}
    settings.STORAGES = stored

    def make(priority: int) -> Task:
        task = make_task(Status.GENERATED, attempt=1, priority=priority, width=64, height=64)
        raw.write_raw(task.id, 0, task.attempt, PICTURE)
        return task

    return make


def ended(tasks: list[Task]) -> list[int]:
    """Their classes, in the order in which they succeeded."""
    rows = Task.objects.filter(pk__in=[task.id for task in tasks], status=Status.SUCCEEDED)
    return list(rows.order_by("finished_at").values_list("priority", flat=True))


def test_the_urgent_one_that_came_last_is_the_first_to_end_and_all_end(
    fleet: Fleet, generated: Callable[[int], Task]
) -> None:
    tasks = [generated(2) for _ in range(60)]
    for task in tasks[:10]:
        signature("postprocess", (str(task.id),), queue="cpu").apply_async()  # as a program before the classes sent it
    for task in tasks[10:]:
        stages.send_stages(task.id, task.priority)
    tasks.append(generated(0))
    stages.send_stages(tasks[-1].id, 0)
    fleet.start("cpu1")
    wait_until(lambda: all_ended([task.id for task in tasks]), 30, lambda: fleet.tail("cpu1"))
    assert ended(tasks) == [0] + 60 * [2]


def test_lower_classes_have_their_share_while_urgent_ones_keep_coming(
    fleet: Fleet, generated: Callable[[int], Task]
) -> None:
    tasks = [generated(priority) for priority in 12 * [3] + 60 * [0]]
    for task in tasks:
        stages.send_stages(task.id, task.priority)
    fleet.start("cpu1", POSTPROCESS_GROUP="1")
    wait_until(lambda: all_ended([task.id for task in tasks]), 30, lambda: fleet.tail("cpu1"))
    order = ended(tasks)
    assert (len(order), order[0]) == (72, 0)
    assert 3 <= order[:36].count(3) <= 9, "P0 : P3 = 5 : 1"
