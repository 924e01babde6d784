"""Places in the queue and times until the end: the arithmetic, then what a client reads."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from generation.accounts.models import User
from generation.catalogue.models import ImageModel
from generation.queue import client as queue_client
from generation.queue.client import Backlog, QueuePosition
from generation.tasks import estimates, states
from generation.tasks.estimates import before_it
from generation.tasks.models import Status, Task
from imagegenx_site import redis_clients

SHARES = (5, 3, 1, 1)
GENERATE = "/api/v1/image/generate"


def place(ahead: int, tasks: tuple[int, ...], each: float = 1.0) -> QueuePosition:
    return QueuePosition(True, ahead, Backlog(tasks, tuple(each * count for count in tasks), 1))


def test_alone_in_the_queues_only_its_own_class_comes_before():
    assert before_it(place(7, (0, 0, 10, 0)), 2, SHARES) == (7, 7.0)


def test_full_classes_are_served_at_their_shares_meanwhile():
    assert before_it(place(10, (1000, 1000, 1000, 1000)), 3, SHARES) == (100, 100.0)
    assert before_it(place(10, (1000, 1000, 1000, 1000)), 0, SHARES) == (20, 20.0)


def test_a_class_that_runs_empty_leaves_its_share_to_the_others():
    assert before_it(place(10, (5, 0, 1000, 1000)), 3, SHARES) == (25, 25.0)


def test_tasks_of_other_sizes_count_by_their_work():
    waiting = Backlog((10, 0, 0, 100), (100.0, 0, 0, 100.0), 1)  # P0: 10 of 10; P3: 100 of 1
    assert before_it(QueuePosition(True, 4, waiting), 3, SHARES) == (4 + 2, 4.0 + 20.0)


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4), st.integers(0, 3), st.data())
def test_nobody_waits_for_more_than_there_is(tasks, class_, data):
    ahead = data.draw(st.integers(0, tasks[class_]))
    before, work = before_it(place(ahead, tuple(tasks)), class_, SHARES)
    assert ahead <= before <= sum(tasks)
    assert before == pytest.approx(work, abs=2)


@pytest.fixture
def queues(seeded: None) -> Iterator[None]:
    """Empty queues and nothing measured, for tests that look at both."""
    redis = redis_clients.text_client()

    def clear() -> None:
        for name in ("gq:*", "p?"):
            found = list(redis.scan_iter(name, count=1000))
            if found:
                redis.delete(*found)

    clear()
    yield
    clear()


def mini_key() -> str:
    """The shipped model as batch keys name it."""
    return ImageModel.objects.get(name="mini").key


def submit(client: Client, priority: int | None = None, **params: Any) -> dict[str, Any]:
    body = {"text": "a red circle", "priority": priority, "params": {"steps": 10, **params}}
    return client.post(GENERATE, json.dumps(body), content_type="application/json").json()["data"]


@pytest.mark.usefixtures("transactional_db", "queues")  # a ticket is sent when its row is committed
def test_a_client_reads_its_place_and_what_it_will_take(owner: User, client_of: Callable[..., Client]) -> None:
    client = client_of(owner)
    estimates.note({"full": 0.5, f"{mini_key()}:256x256": 0.1, "after": 0.3})
    answers = [submit(client) for _ in range(3)]
    assert [answer["position"] for answer in answers] == [1, 2, 3]
    task = Task.objects.order_by("id")[2]
    own = 10 * 0.1 + 0.3
    assert answers[0]["estimated_time"] == pytest.approx(own, abs=0.02)
    assert answers[2]["estimated_time"] == pytest.approx(2 * 0.5 * task.cost + own, abs=0.02)
    first = Task.objects.order_by("id")[0]
    queue_client.cancel(first.id)
    assert estimates.outlook(task).position == 2


@pytest.mark.usefixtures("queues")
def test_a_running_task_has_no_place_and_what_is_left_of_its_time(make_task: Callable[..., Task]) -> None:
    estimates.note({f"{mini_key()}:256x256": 0.1, "after": 0.3})
    task = make_task()
    states.claim([task.id], "w1")
    task.refresh_from_db()
    states.report_progress(task.id, 50, worker="w1", attempt=1)
    task.refresh_from_db()
    running = estimates.outlook(task)
    assert running.position is None
    assert running.seconds == pytest.approx(4 * 0.1 * 0.5 + 0.3, abs=0.02)
    assert estimates.outlook(make_task(Status.GENERATED)) == estimates.Outlook(None, 0.3)
    assert estimates.outlook(make_task(Status.FAILED)) == estimates.Outlook(None, 0.0)


@pytest.mark.usefixtures("transactional_db", "queues")
def test_the_time_after_the_gpu_is_that_of_its_class(owner: User, client_of: Callable[..., Client]) -> None:
    estimates.note({f"{mini_key()}:256x256": 0.1, "after": 60.0, "after:2": 0.3})
    normal, test = submit(client_of(owner), priority=2), submit(client_of(owner), priority=3)
    assert normal["estimated_time"] == pytest.approx(10 * 0.1 + 0.3, abs=0.02)
    assert test["estimated_time"] > 60, "nothing was measured of its class"


@pytest.mark.usefixtures("queues")
def test_measurements_go_into_a_running_mean() -> None:
    for measured in (1.0, 2.0, 2.0):
        estimates.note({"full": measured, "after": 0.0})
    assert float(redis_clients.text_client().hget(estimates.SPEED_KEY, "full")) == pytest.approx(1.19)
    assert redis_clients.text_client().hget(estimates.SPEED_KEY, "after") is None
