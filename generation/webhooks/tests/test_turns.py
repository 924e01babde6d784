"""Receivers that never answer hold their own customer's deliveries and nobody else's."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from fixtures.hostile import HostileServer
from fixtures.rows import finish
from generation.accounts.models import User
from generation.tasks import outbox
from generation.tasks.models import Task
from generation.webhooks import delivery, messages, turns
from generation.webhooks.models import Delivery
from imagegenx_site import redis_clients

MakeTask = Callable[..., Task]


@pytest.fixture(autouse=True)
def local_receivers(settings: Any) -> None:
    settings.PRIVATE_CALLBACKS = ["127.0.0.1/32"]
    settings.PUBLIC_URL = "https://images.example"
    settings.WEBHOOK_TIMEOUT_S = 1


def ended(make_task: MakeTask, url: str, **fields: Any) -> Delivery:
    task = finish(make_task(callback_url=url, **fields))
    outbox.write_delivery(task.id)
    return Delivery.objects.get(task=task)


def send(row: Delivery) -> bool:
    try:
        return outbox.send(row.id)
    finally:
        connections.close_all()


@pytest.mark.django_db(transaction=True)
def test_a_user_whose_receivers_hang_has_a_few_attempts_at_once(
    hostile: HostileServer, make_task: MakeTask, settings: Any
) -> None:
    settings.WEBHOOKS_PER_USER = 2
    rows = [ended(make_task, f"{hostile.url}/silent/{number}") for number in range(6)]
    with ThreadPoolExecutor(6) as threads:
        sent = list(threads.map(send, rows))
    assert sent == [False] * 6
    assert (hostile.asked["/silent"], hostile.most_open["/silent"]) == (2, 2)
    tried, put_back = Delivery.objects.filter(attempts=1), Delivery.objects.filter(attempts=0)
    assert (tried.count(), put_back.count()) == (2, 4)
    assert all(row.log == [] and row.state == "pending" for row in put_back)
    assert all(timezone.now() < row.next_at for row in put_back), "they come again in seconds"


@pytest.mark.django_db
def test_a_host_has_a_few_attempts_at_once_whoever_asks(settings: Any) -> None:
    settings.WEBHOOKS_PER_HOST = 2
    with turns.hold(1, "http://one.example/a"), turns.hold(2, "https://One.example.:8443/b"):
        with pytest.raises(turns.NoTurn), turns.hold(3, "http://one.example/"):
            pass
        with turns.hold(3, "http://two.example/"):
            pass
    with turns.hold(3, "http://one.example/"):
        pass


def test_a_slot_of_a_killed_worker_becomes_free(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WEBHOOKS_PER_USER, settings.WEBHOOK_TIMEOUT_S = 1, 0.2
    monkeypatch.setattr(turns, "_MARGIN_S", 0)
    assert turns._taken(["gx:webhook:user:9", "gx:webhook:host:x.example"], "of a killed worker")
    with pytest.raises(turns.NoTurn), turns.hold(9, "http://x.example/"):
        pass
    time.sleep(0.25)
    with turns.hold(9, "http://x.example/"):
        pass


@pytest.mark.django_db
def test_an_attempt_ends_at_its_deadline_whatever_drips(hostile: HostileServer, make_task: MakeTask) -> None:
    row = ended(make_task, f"{hostile.url}/head")
    began = time.monotonic()
    assert not outbox.send(row.id)
    assert time.monotonic() - began < 2
    row.refresh_from_db()
    assert (row.attempts, row.log[0]["status"]) == (1, None)


@pytest.mark.django_db
def test_thousands_of_one_user_hide_nobody_elses(
    make_task: MakeTask, make_user: Callable[..., User], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_DUE_PER_USER", 2)
    many = [ended(make_task, f"http://a.example/{number}") for number in range(5)]
    other = ended(make_task, "http://b.example/", user=make_user("other"))
    found = delivery.due()
    assert found == {2: [many[0].id, many[1].id, other.id]}


@pytest.mark.django_db
def test_a_delivery_has_one_message_in_the_queue(make_task: MakeTask) -> None:
    redis = redis_clients.text_client()
    redis.delete("webhooks.p2")
    row = ended(make_task, "http://a.example/")
    messages.send_messages([row.id], 2)
    messages.send_messages([row.id], 2)
    assert redis.llen("webhooks.p2") == 1
    messages.taken(row.id)
    messages.send_messages([row.id], 2)
    assert redis.llen("webhooks.p2") == 2
    redis.delete("webhooks.p2")
