"""Enqueue and cancel as the web process does them, against the Redis of the settings."""

import json
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
def _empty_redis():
    redis_clients.bytes_client().flushdb()
    yield
    forget_connections()
    redis_clients.bytes_client().flushdb()


def put(task_id: UUID, priority: int = 2, **changes):
    fields: dict[str, Any] = {"batch_key": "mini@1:256x256", "user_id": 1, "weight": 1.5, "model": "mini@1"}
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
    assert message["headers"]["argsrepr"] == f"('{task_id}',)"
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


def test_a_repeated_ticket_has_a_message_id_of_its_own():
    task_id = uuid7()
    queue_client.send_ticket(task_id, 3, id_suffix="2")
    (message,) = messages("p3")
    assert message["headers"]["id"] == f"{task_id}.2"


def test_submitting_goes_on_when_redis_is_out_of_reach(monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(settings, "REDIS_URL", "redis://127.0.0.1:1/0")
        forget_connections()
        assert put(uuid7()) is None
    forget_connections()
    assert "left to the reconciler" in caplog.text
