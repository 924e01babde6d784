"""Celery's own commands on real workers: what `revoke`, `terminate`, `purge` and `inspect` do to tasks."""

import subprocess
import sys
import time
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from celery import signature
from django.conf import settings
from redis import Redis

from fixtures.fleet import ROOT, Fleet, all_ended, statuses, submit, wait_until
from generation.accounts.models import User
from generation.catalogue.models import ImageModel
from generation.queue import client as queue_client
from generation.queue import model_memory
from generation.tasks.models import Status, Task
from imagegenx_site.celery import app


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis.from_url(settings.REDIS_URL, decode_responses=True) as client:
        yield client


def status(task_id: UUID) -> str:
    return str(Task.objects.get(pk=task_id).status)


def lengths(redis: Redis) -> list[int]:
    return [int(redis.llen(f"p{priority}")) for priority in range(4)]


def active(*workers: str) -> dict[str, set[str]]:
    """The tickets that each worker says it works on, by its name."""
    found = app.control.inspect([f"{name}@test" for name in workers], timeout=5).active() or {}
    return {name.partition("@")[0]: {request["id"] for request in requests} for name, requests in found.items()}


def test_a_revoked_ticket_cancels_its_task_wherever_it_lies(fleet: Fleet, user: User, redis: Redis) -> None:
    fleet.only("gpu1", "reconciler")
    worker = fleet.processes["gpu1"].pid
    (running,) = submit(user, steps=500)
    wait_until(lambda: status(running) == "running", 30)
    waiting = submit(user, count=40, side=512, steps=500)
    (terminated,) = submit(user, steps=500, priority=0)
    wait_until(lambda: status(terminated) == "running", 30)
    app.control.revoke([str(running), str(waiting[20])])
    app.control.revoke(str(terminated), terminate=True, signal="SIGKILL")
    wait_until(lambda: statuses([running, waiting[20], terminated]) == {"cancelled": 3}, 10)
    wait_until(lambda: lengths(redis) == list(queue_client.backlog().tasks), 5)
    assert str(waiting[20]) not in "".join(redis.lrange("p2", 0, -1))
    assert statuses(waiting)["cancelled"] == 1
    assert (fleet.alive("gpu1"), fleet.processes["gpu1"].pid) == (True, worker)
    app.control.revoke([str(task_id) for task_id in waiting])
    wait_until(
        lambda: all_ended(waiting),
        30,
        lambda: f"{statuses(waiting)} {fleet.tail('reconciler')} {redis.smembers('gq:revoked')}",
    )
    assert statuses(waiting) == {"cancelled": 40}


def test_a_revoked_stage_cancels_its_task(fleet: Fleet, user: User, redis: Redis) -> None:
    fleet.only("cpu1", "reconciler")
    (task_id,) = submit(user)
    Task.objects.filter(pk=task_id).update(status=Status.GENERATED, attempt=1)
    message_id = str(uuid4())
    app.control.revoke(message_id)
    wait_until(lambda: message_id in str(app.control.inspect(timeout=2).revoked()), 15)
    signature("postprocess", (str(task_id),), queue="cpu.p2", task_id=message_id).apply_async()
    wait_until(lambda: status(task_id) == "cancelled", 15, lambda: fleet.tail("cpu1"))


def test_inspect_names_the_worker_that_runs_a_task(fleet: Fleet, user: User, redis: Redis) -> None:
    fleet.only("gpu1", "gpu2", "reconciler")
    ids = submit(user, count=14, steps=300, num_images=2)
    wait_until(lambda: statuses(ids)["running"] == 14 - sum(lengths(redis)) > 0, 30)

    def run_by() -> dict[str, set[str]]:
        rows = Task.objects.filter(pk__in=ids, status="running").values_list("worker", "id")
        return {name: {str(id_) for worker, id_ in rows if worker.startswith(name)} for name in ("gpu1", "gpu2")}

    wait_until(lambda: active("gpu1", "gpu2") == run_by(), 20, lambda: f"{active('gpu1', 'gpu2')} {run_by()}")
    fleet.signal("gpu1")
    wait_until(
        lambda: (
            {ticket.partition(".")[0] for ticket in active("gpu2").get("gpu2", set())} == run_by()["gpu2"]
            and not run_by()["gpu1"]
        ),
        20,
        lambda: f"{active('gpu2')} {run_by()}",
    )
    left = app.control.inspect(["gpu2@test"], timeout=5)
    shown = [request["args"] for request in (left.active(safe=True) or {})["gpu2@test"]]
    assert all("'text2img', 'mini@" in text and "'256x256', '2 pictures'" in text for text in shown)
    assert "red circle" not in str(shown), "never a word of the prompt"
    app.control.revoke([str(task_id) for task_id in ids])
    wait_until(lambda: all_ended(ids), 20)
    assert left.reserved() == {"gpu2@test": []}
    assert (left.stats() or {})["gpu2@test"]["total"]["generate"] >= len(shown)


def test_purge_loses_nothing(fleet: Fleet, user: User, redis: Redis) -> None:
    fleet.only("gpu1", "reconciler")
    (busy,) = submit(user, side=512, steps=3000)  # it runs until it is revoked
    wait_until(lambda: status(busy) == "running", 30)
    ids = submit(user, count=30, steps=4)
    wait_until(lambda: lengths(redis) == [0, 0, 30, 0], 10)
    purge = [sys.executable, "-m", "celery", "-A", "imagegenx_site", "purge", "-f", "-Q", "p0,p1,p2,p3,cpu.p2,io.p2"]
    said = subprocess.run(purge, cwd=ROOT, env=fleet.env, check=True, capture_output=True, text=True).stdout
    assert "Purged 30 messages" in said  # by now they may be there again
    purged = time.monotonic()
    wait_until(lambda: lengths(redis) == list(queue_client.backlog().tasks) and lengths(redis)[2] > 0, 15)
    print(f"the queues had their tickets again after {time.monotonic() - purged:.1f} s")
    app.control.revoke(str(busy))
    wait_until(lambda: statuses(ids)["generated"] == 30, 30, lambda: str(statuses(ids)))
    wait_until(lambda: lengths(redis) == [0, 0, 0, 0], 10)


def test_a_worker_loads_and_drops_models_by_hand(fleet: Fleet, user: User, redis: Redis) -> None:
    """And publishes what it has, here nothing: its engine only sleeps."""
    fleet.only("gpu1")
    wait_until(lambda: redis.keys("gq:models:*"), 20)
    (worker,) = model_memory.held()
    assert (worker.node, worker.models) == ("gpu1@test", {})

    def ask(action: str, name: str) -> dict[str, str]:
        answers = app.control.broadcast(
            "model", arguments={"action": action, "name": name}, destination=["gpu1@test"], reply=True, timeout=5
        )
        return dict(answers[0]["gpu1@test"]) if answers else {}

    assert ask("load", "mini") == {"ok": f"{ImageModel.objects.get(name='mini').key}: load"}
    assert "there is no enabled model" in ask("load", "nothing")["error"]
    assert "load, unload" in ask("burn", "mini")["error"]
    model_memory.ask("gpu1@test", "unload", "mini")
    wait_until(lambda: "unload, by hand" in fleet.tail("gpu1"), 10)
