"""What the API answers from Redis is never older than what somebody has already seen."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from fixtures.rows import finish
from generation.accounts.models import ApiKey, Plan
from generation.catalogue import loras
from generation.catalogue.models import Lora
from generation.tasks import delete, states
from generation.tasks.models import Status, Task
from generation.tasks.view import view_for
from imagegenx_site import caches, redis_clients
from imagegenx_site.cache import Cache, CacheConfig
from imagegenx_site.ids import to_public, uuid7

pytestmark = pytest.mark.django_db(transaction=True)
ORDER: list[str] = [Status.QUEUED, Status.RUNNING, Status.GENERATED, Status.PROCESSED, Status.STORED, Status.SUCCEEDED]
SHOWN = {"queued": 0, "running": 1, "succeeded": 2}


def address(task: Task) -> str:
    return f"/api/v1/image/task/{task.public_id}"


def test_a_repeated_poll_asks_postgres_nothing(
    make_task: Any, client_of: Any, owner: Any, django_assert_num_queries: Any
):
    client, task = client_of(owner), finish(make_task())
    first = client.get(address(task)).json()["data"]
    with django_assert_num_queries(0):
        again = client.get(address(task)).json()["data"]
    assert again == first
    assert first["temp_url"].startswith("http://testserver/files/images/")
    assert client.get(first["temp_url"]).status_code == 200


def test_an_unknown_id_is_remembered_for_everybody(client_of: Any, owner: Any, django_assert_num_queries: Any):
    client, address = client_of(owner), f"/api/v1/image/task/{to_public(uuid7())}"
    assert client.get(address).status_code == 404
    with django_assert_num_queries(0):
        assert client.get(address).status_code == 404


def test_a_cached_task_is_shown_to_the_team_and_to_nobody_else(
    make_task: Any, client_of: Any, make_user: Any, owner: Any
):
    task = finish(make_task())
    assert client_of(owner).get(address(task)).status_code == 200
    assert client_of(make_user("mate", team="shop")).get(address(task)).status_code == 200
    assert client_of(make_user("stranger")).get(address(task)).status_code == 404


def test_a_poll_is_never_behind_the_row(make_task: Any, owner: Any):
    """Two readers look at the row, then at the cache, while the task goes its way; the cache may be ahead of the first
    look, never behind it.
    """
    tasks = [make_task() for _ in range(4)]
    done, behind, looks = threading.Event(), [], []

    def read() -> None:
        while not done.is_set():
            for task in tasks:
                row = Task.objects.values_list("status", flat=True).get(pk=task.pk)
                poll = view_for(task.public_id, owner, base_url="").body["status"]
                looks.append(poll)
                if SHOWN[poll] < min(ORDER.index(row), 1) or (row == Status.SUCCEEDED and poll != "succeeded"):
                    behind.append((row, poll))
        connection.close()

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for task in tasks:
        finish(task)
    done.set()
    for reader in readers:
        reader.join()
    assert behind == []
    assert len(looks) > len(tasks)
    assert {view_for(task.public_id, owner, base_url="").body["status"] for task in tasks} == {"succeeded"}


def test_a_mover_that_dies_after_its_commit_leaves_no_old_status(make_task: Any, owner: Any, monkeypatch: Any):
    task = make_task()
    assert view_for(task.public_id, owner, base_url="").body["status"] == "queued"
    monkeypatch.setattr(states, "_publish_move", lambda *_: None)  # the process was killed between commit and this call
    states.claim([task.id], "w1")
    assert view_for(task.public_id, owner, base_url="").body["status"] == "running"


def test_progress_and_deletion_are_seen_at_once(make_task: Any, client_of: Any, owner: Any):
    client, task = client_of(owner), make_task()
    states.claim([task.id], "w1")
    assert client.get(address(task)).json()["data"]["progress"] == 0
    states.report_progress(task.id, 40, worker="w1", attempt=1)
    answer = client.get(address(task))
    assert answer.json()["data"]["progress"] == 40
    assert client.get(address(task), headers={"if-none-match": answer["ETag"]}).status_code == 304
    delete.delete_task(Task.objects.get(pk=task.pk))
    assert client.get(address(task)).status_code == 404


def end_row(key: ApiKey) -> None:
    key.revoked_at = timezone.now()
    key.save()


def end_by_update(key: ApiKey) -> None:
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now())


def end_user(key: ApiKey) -> None:
    key.user.is_active = False
    key.user.save()


@pytest.mark.parametrize("end", [end_row, end_by_update, end_user, ApiKey.delete])
def test_a_key_that_was_ended_stops_at_once(client_of: Any, owner: Any, end: Callable[[ApiKey], Any]):
    client = client_of(owner)
    assert client.get("/api/v1/usage").status_code == client.get("/api/v1/usage").status_code == 200
    end(ApiKey.objects.get(user=owner))
    assert client.get("/api/v1/usage").status_code == 401


def test_a_cached_key_needs_no_query_and_still_expires(client_of: Any, owner: Any, django_assert_num_queries: Any):
    client = client_of(owner)
    client.get("/api/v1/styles")
    with django_assert_num_queries(0):
        assert client.get("/api/v1/styles").status_code == 200
    [prefix] = ApiKey.objects.values_list("prefix", flat=True)
    kept = redis_clients.text_client().get(f"gx:cache:key:v:{prefix}")
    assert kept is not None
    assert "password" not in kept
    ApiKey.objects.update(expires_at=timezone.now())
    assert client.get("/api/v1/styles").status_code == 401


def test_an_edited_plan_counts_from_the_next_request(client_of: Any, owner: Any):
    client = client_of(owner)
    before = client.get("/api/v1/plans")
    plan = Plan.objects.get(name=before.json()["data"]["current"])
    plan.requests_per_second = 7
    plan.save()
    assert client.get("/api/v1/plans")["RateLimit-Policy"] != before["RateLimit-Policy"]
    owner.team.plan = Plan.objects.get(name="free")
    owner.team.save()
    assert client.get("/api/v1/plans").json()["data"]["current"] == "free"


def test_a_lora_that_was_switched_off_is_refused_at_once(owner: Any, make_user: Any, django_assert_num_queries: Any):
    facts = {"name": "ink", "state": Lora.State.ACTIVE, "base_family": "sd15", "source": "x"}
    everybodys = Lora.objects.create(sha256="a" * 64, **facts)
    assert loras._named("ink", owner) == everybodys
    own = Lora.objects.create(owner=owner, sha256="b" * 64, **facts)
    assert loras._named("ink", owner) == own
    with django_assert_num_queries(0):
        assert loras._named("ink@1", owner) == own
    assert loras._named("ink", make_user("stranger")) == everybodys
    own.state = Lora.State.DISABLED
    own.save(update_fields=["state"])
    assert loras._named("ink", owner) == everybodys
    everybodys.delete()
    assert loras._named("ink", owner) is None


def test_every_cache_may_vanish_at_any_time(make_task: Any, client_of: Any, owner: Any, monkeypatch: Any):
    client, task = client_of(owner), finish(make_task())
    before = client.get(address(task)).json()["data"]
    for key in redis_clients.text_client().scan_iter("gx:cache:*"):
        redis_clients.text_client().delete(key)
    assert client.get(address(task)).json()["data"]["outputs"][0]["sha256"] == before["outputs"][0]["sha256"]
    nobody = Redis(port=1, retry=Retry(NoBackoff(), 0))
    for name in ("keys", "tasks", "loras"):
        away = Cache(nobody, CacheConfig(name, 60))
        monkeypatch.setattr(caches, name, lambda away=away: away)
    assert client.get(address(task)).status_code == 200
    assert finish(make_task()).status == Status.SUCCEEDED


@pytest.mark.parametrize("day", ["0300-04-05", "1970-01-02"])
def test_a_list_until_before_all_time_is_empty(client_of: Any, owner: Any, day: str):
    answer = client_of(owner).get(f"/api/v1/image/tasks?until={day}")
    assert (answer.status_code, answer.json()["data"]["items"]) == (200, [])
