"""Queues of GPU workers whose pods are gone."""

import time

import pytest

from imagegenx_site import redis_clients
from workers.housekeeping.worker_queues import delete_abandoned_queues


@pytest.mark.django_db
def test_the_queue_of_a_gone_pod_is_deleted_and_that_of_a_living_one_kept() -> None:
    redis = redis_clients.text_client()
    redis.flushdb()
    redis.zadd("gq:lease", {"gpu-worker-7d9f-new-" + "a" * 32: int(time.time() * 1000) + 60_000})
    for name in ("gpu-worker-7d9f-old", "gpu-worker-7d9f-new"):
        redis.lpush(f"dq.{name}", "a ticket")
        redis.sadd(f"_kombu.binding.dq.{name}", "x")
    redis.lpush("p1", "a ticket")
    assert delete_abandoned_queues() == 1
    assert sorted(key for key in redis.scan_iter("*dq.*")) == [
        "_kombu.binding.dq.gpu-worker-7d9f-new",
        "dq.gpu-worker-7d9f-new",
    ]
    assert redis.llen("p1") == 1
    assert delete_abandoned_queues() == 0
    redis.flushdb()
