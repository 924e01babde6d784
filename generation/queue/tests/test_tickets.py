"""Enqueue and cancel as the web process does them, against a real Redis."""

import base64
import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings

from generation.queue import client as queue_client
from generation.queue.worker import WorkerQueue, WorkerQueueConfig
from imagegenx_site import redis_clients
from imagegenx_site.ids import uuid7


def forget_connections() -> None:
    redis_clients.bytes_client.cache_clear()
    queue_client._script.cache_clear()


@pytest.fixture(autouse=True)
def _empty_redis(monkeypatch, redis_url):
    """A server of its own: on that of the settings workers of other tests may claim."""
    monkeypatch.setattr(settings, "REDIS_URL", redis_url)
    forget_connections()
    redis_clients.bytes_client().flushdb()
    yield
    forget_connections()


def put(task_id: UUID, priority: int = 2, **changes):
    fields: dict[str, Any] = {
        "batch_key": "mini@1:256x256",
        "user_id": 1,
        "weight": 1.5,
        "model": "mini@1",
        "kind": "text2img",
    }
    fields |= {"created_ms": 1000, "expires_ms": 0}
    places = queue_client.enqueue([queue_client.Entry(task_id, priority, **(fields | changes))])
    return places and places[0].new


def messages(queue: str) -> list[dict]:
    return [json.loads(raw) for raw in redis_clients.bytes_client().lrange(queue, 0, -1)]


def test_enqueue_writes_the_buffer_and_one_ticket_with_the_id_only():
    task_id = uuid7()
    assert put(task_id, 1) is True
    (message,) = messages("p1")
    assert message["headers"]["task"] == "generate"
    assert message["headers"]["id"] == str(task_id)
    assert message["headers"]["argsrepr"] == f"('{task_id}', 'text2img', 'mini@1', '256x256', '1 picture')"
    assert json.loads(base64.b64decode(message["body"]))[0] == [str(task_id)]
    fields = redis_clients.bytes_client().hgetall(f"gq:t:{task_id}")
    assert (fields[b"st"], fields[b"cls"], fields[b"key"]) == (b"w", b"1", b"mini@1:256x256")


def test_enqueueing_twice_sends_one_ticket():
    task_id = uuid7()
    assert put(task_id) is True
    assert put(task_id) is False
    assert len(messages("p2")) == 1


def test_backlog_counts_tasks_and_work_by_class():
    for priority in (0, 2, 2):
        put(uuid7(), priority)
    assert queue_client.backlog() == queue_client.Backlog((1, 0, 2, 0), (1.5, 0.0, 3.0, 0.0))


def test_set_priority_moves_a_waiting_task_with_its_ticket_and_its_weight():
    stays, goes = uuid7(), uuid7()
    put(stays)
    put(goes)
    assert queue_client.set_priority(goes, 0) is True
    assert queue_client.set_priority(goes, 0) is False
    assert queue_client.backlog() == queue_client.Backlog((1, 0, 1, 0), (1.5, 0.0, 1.5, 0.0))
    assert [message["headers"]["id"] for message in messages("p0")] == [str(goes)]
    assert [message["headers"]["id"] for message in messages("p2")] == [str(stays)]
    config = WorkerQueueConfig(worker="w1", own_queue="dq.w1")
    claimed = WorkerQueue(redis_clients.connect(settings.REDIS_URL, 5), config).claim(1)
    assert [(task.task_id, task.priority) for task in claimed.tasks] == [(str(goes), 0)]
    assert queue_client.set_priority(goes, 3) is False, "it runs"
    assert queue_client.set_priority(uuid7(), 3) is False


def test_cancel_takes_a_waiting_task_and_its_real_ticket_away():
    task_id, other = uuid7(), uuid7()
    put(task_id)
    put(other)
    assert queue_client.cancel(task_id) == "removed"
    assert [message["headers"]["id"] for message in messages("p2")] == [str(other)]
    assert queue_client.cancel(task_id) == "absent"
    assert queue_client.backlog().tasks == (0, 0, 1, 0)


def entry(task_id: UUID, priority: int) -> queue_client.Entry:
    return queue_client.Entry(task_id, priority, "mini@1:256x256", 1, 1.5, 1000, 0, "mini@1", 2, "text2img")


def test_a_repeated_ticket_has_a_message_id_of_its_own_and_is_sent_only_where_one_is_missing():
    task_id = uuid7()
    again = entry(task_id, 3)
    assert queue_client.resend_ticket(again) is False, "the queue does not know the task"
    put(task_id, 3)
    assert queue_client.resend_ticket(again) is False, "its ticket is there"
    redis_clients.bytes_client().delete("p3")
    assert queue_client.resend_ticket(again, id_suffix="2") is True
    (message,) = messages("p3")
    assert message["headers"]["id"] == f"{task_id}.2"
    redis_clients.bytes_client().delete("p3")
    worker().claim(1)
    assert queue_client.resend_ticket(again) is True, "the worker that runs it shows it"
    assert queue_client.resend_ticket(again) is False, "once"
    assert [len(messages(queue)) for queue in ("p3", "dq.w1")] == [0, 1]


def worker() -> WorkerQueue:
    config = WorkerQueueConfig(worker="w1-1-a", own_queue="dq.w1", window_ms=0)
    return WorkerQueue(redis_clients.connect(settings.REDIS_URL, 5), config)


def lengths() -> list[int]:
    return [int(redis_clients.bytes_client().llen(f"p{priority}")) for priority in range(4)]


def ids_in(queue: str) -> list[str]:
    return [message["headers"]["id"] for message in messages(queue)]


def test_lengths_are_the_waiting_tasks_however_deep_a_ticket_lies():
    """One user's 1,500 tasks came first; fair order takes from both ends and the middle, others are withdrawn."""
    ids = [uuid7() for _ in range(2000)]
    entries = [replace(entry(id_, 2), user_id=number // 1500 * number) for number, id_ in enumerate(ids)]
    queue_client.enqueue(entries)
    claimed: set[str] = set()
    queue = worker()
    for number in range(60):
        claimed |= {task.task_id for task in queue.claim(8).tasks}
        queue_client.cancel(ids[7 * number + 400])
        queue_client.set_priority(ids[5 * number + 900], number % 2)
        assert lengths() == list(queue_client.backlog().tasks)
    assert ids_in("dq.w1") != []
    assert sorted(ids_in("dq.w1")) == sorted(claimed)
    waiting = {str(id_) for id_ in ids if queue.state(str(id_))[0] == "w"}
    assert sorted(ids_in("p0") + ids_in("p1") + ids_in("p2")) == sorted(waiting), "each waits with its own ticket"


def test_a_ticket_that_a_worker_gives_back_is_found_again():
    ids = [uuid7() for _ in range(400)]
    queue_client.enqueue([entry(id_, 1) for id_ in ids])
    queue, redis = worker(), redis_clients.bytes_client()
    read = [redis.rpop("p1") for _ in range(2)]
    for task_id in ids[:2]:
        queue.receive_ticket(str(task_id))
    queue_client.cancel(ids[200])
    for task_id, message in zip(ids, read, strict=False):
        queue.return_ticket(str(task_id))
        redis.rpush("p1", message)
    assert int(redis.hget(f"gq:t:{ids[1]}", "tk") or 0) == queue_client.first_tickets()[1], "it is read next"
    for task_id in (ids[0], ids[1], ids[-1], ids[100]):
        queue_client.cancel(task_id)
    assert lengths() == list(queue_client.backlog().tasks) == [0, 395, 0, 0]


def test_what_expired_leaves_with_its_ticket():
    stays = uuid7()
    queue_client.enqueue([replace(entry(uuid7(), 2), expires_ms=1) for _ in range(30)])
    put(stays)
    assert [task.task_id for task in worker().claim(1).tasks] == [str(stays)]
    assert lengths() == [0, 0, 0, 0]


def test_submitting_goes_on_when_redis_is_out_of_reach(monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(settings, "REDIS_URL", "redis://127.0.0.1:1/0")
        forget_connections()
        assert put(uuid7()) is None
    forget_connections()
    assert "left to the reconciler" in caplog.text
