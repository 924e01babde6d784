"""Alerts of lost processes and devices, by pool."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from generation.accounts.models import User
from generation.telemetry import alerts
from generation.telemetry.models import Alert
from imagegenx_site import redis_clients

POOL = "gpu-worker"


class Member:
    """A GPU worker as its watchdog shows it."""

    def __init__(self, name: str, pool: str = POOL) -> None:
        self.unique = f"{name}-{uuid.uuid4().hex}"
        self.beat()
        alerts.pools().arrive(self.unique, pool)

    def beat(self) -> None:
        redis_clients.bytes_client().zadd("gq:lease", {self.unique: int(time.time() * 1000) + 60_000})

    def die(self, kind: str = Alert.Kind.WORKER_LOST, message: str = "the worker process died") -> None:
        redis_clients.bytes_client().zrem("gq:lease", self.unique)
        alerts.raise_alert(kind, self.unique, message)

    def stop(self) -> None:
        redis_clients.bytes_client().zrem("gq:lease", self.unique)
        alerts.pools().leave(self.unique)


@pytest.fixture(autouse=True)
def empty_redis(db: None) -> Iterator[None]:
    redis = redis_clients.text_client()

    def clear() -> None:
        redis.delete("gq:lease", *redis.keys("proc:*"))

    clear()
    yield
    clear()


def health() -> tuple[int, Any]:
    response = Client().get("/healthz/workers")
    return response.status_code, response.json()


def pool(name: str = POOL) -> tuple[int, int]:
    """(live, wanted)"""
    return next(((one.live, one.wanted) for one in alerts.pools().state() if one.name == name), (0, 0))


def test_health_is_red_without_a_worker_and_green_with_one() -> None:
    assert health()[0] == 503
    member = Member("gpu1")
    pools = [{"pool": POOL, "live": 1, "wanted": 1}]
    assert health() == (200, {"status": "ok", "workers": [member.unique], "pools": pools, "alerts": []})


def test_the_loss_of_one_of_two_workers_of_one_name_is_not_silent() -> None:
    Member("gpu1")
    lost = Member("gpu1")
    lost.die()
    code, facts = health()
    assert (code, facts["pools"]) == (503, [{"pool": POOL, "live": 1, "wanted": 2}])
    assert [(alert["worker"], alert["pool"]) for alert in facts["alerts"]] == [("gpu1", POOL)]


def test_an_alert_clears_when_its_pool_is_whole_again_whatever_the_new_worker_is_called() -> None:
    members = [Member("gpu-worker-7d9f-abcde"), Member("gpu-worker-7d9f-fghij")]
    members[0].die(Alert.Kind.DEVICE_LOST, "the device or the engine failed: gone")
    members[0].die(message="its lease ran out")
    alerts.clear_whole()
    assert [(row.worker, row.kind) for row in Alert.objects.all()] == [("gpu-worker-7d9f-abcde", "device_lost")]
    assert health()[0] == 503
    Member("gpu-worker-7d9f-klmno")
    alerts.clear_whole()
    assert health()[0] == 200
    assert pool() == (2, 2)


def test_a_worker_of_another_pool_is_no_replacement() -> None:
    Member("a")
    Member("b", "gpu-worker/flux").die()
    Member("c")
    alerts.clear_whole()
    assert health()[1]["alerts"][0]["pool"] == "gpu-worker/flux"


def test_two_deaths_at_once_need_two_replacements() -> None:
    members = [Member(f"w{number}") for number in range(4)]
    for member in members[:2]:
        redis_clients.bytes_client().zrem("gq:lease", member.unique)
    for member in members[:2]:
        alerts.raise_alert(Alert.Kind.WORKER_LOST, member.unique, "its lease ran out")
    Member("w4")
    alerts.clear_whole()
    assert (health()[0], pool()) == (503, (3, 4))
    Member("w5")
    alerts.clear_whole()
    assert (health()[0], pool()) == (200, (4, 4))


def test_a_replacement_that_was_quicker_than_the_lease_is_one() -> None:
    lost = Member("old")
    seen = int(time.time() * 1000)
    time.sleep(0.01)
    Member("new")
    redis_clients.bytes_client().zrem("gq:lease", lost.unique)
    alerts.raise_alert(Alert.Kind.WORKER_LOST, lost.unique, "its lease ran out", seen)
    assert Alert.objects.get().cleared_at is not None
    assert pool() == (1, 1)
    assert health()[0] == 200


def test_scaling_down_and_rolling_leave_no_open_place() -> None:
    members = [Member(f"w{number}") for number in range(3)]
    members[0].stop()
    assert pool() == (2, 2)
    members[1].stop()
    Member("next")
    assert pool() == (2, 2)
    assert health()[0] == 200


def test_the_setting_says_how_many_there_should_be(settings: Any) -> None:
    settings.WORKERS_WANTED = {POOL: 3, "cpu-worker": 1}
    Member("gpu1")
    assert health()[0] == 503
    assert [(one.name, one.live, one.wanted) for one in alerts.pools().state()] == [("cpu-worker", 0, 1), (POOL, 1, 3)]


def test_a_worker_that_redis_forgot_is_no_loss() -> None:
    member = Member("gpu1")
    redis_clients.text_client().flushdb()
    member.beat()
    alerts.pools().arrive(member.unique, POOL)
    assert (pool(), health()[0]) == ((1, 1), 200)


def test_ten_thousand_workers_are_counted_quickly() -> None:
    redis = redis_clients.text_client()
    until = int(time.time() * 1000) + 60_000
    names = [f"w-{uuid.uuid4().hex}" for _ in range(10_000)]
    redis.zadd("gq:lease", dict.fromkeys(names, until))
    redis.hset("proc:pool", mapping=dict.fromkeys(names, POOL))
    redis.sadd("proc:pools", POOL)
    began = time.monotonic()
    assert pool() == (10_000, 10_000)
    assert time.monotonic() - began < 1


def test_an_operator_clears_the_alert_of_a_removed_worker() -> None:
    Member("gpu2")
    Member("gpu1").die()
    client = Client()
    client.force_login(User.objects.create_superuser("admin", password="a long password"))
    form = {"action": "clear", "_selected_action": [str(Alert.objects.get().pk)]}
    assert client.post("/admin/generation/alert/", form).status_code == 302
    assert (health()[0], pool()) == (200, (1, 1))
