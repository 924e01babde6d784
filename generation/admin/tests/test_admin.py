"""Operators find tasks, see what happened to them, and can stop them."""

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from auditlog.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import models
from django.test import Client

from generation.accounts.models import ApiKey, User
from generation.catalogue.models import Lora, Style
from generation.catalogue.tests.test_loras import lora_bytes
from generation.queue import client as queue_client
from generation.tasks import enqueue
from generation.tasks.models import Image, Status, Task
from generation.telemetry import alerts
from imagegenx_site import redis_clients
from imagegenx_site.ids import image_id

MakeTask = Callable[..., Task]


@pytest.fixture
def staff(owner: User) -> Client:
    User.objects.create_superuser("root", password="a long password")
    client = Client()
    assert client.login(username="root", password="a long password")
    return client


@pytest.fixture
def finished(make_task: MakeTask) -> Task:
    task = make_task(
        Status.SUCCEEDED,
        text="<script>alert(1)</script>",
        history=[
            {"at": "2026-01-02T03:04:05.006+00:00", "to": "running", "attempt": 1, "worker": "gpu1-4711-5f3a"},
            {"at": "2026-01-02T03:04:06.007+00:00", "to": "queued", "reason": "worker lost: it died"},
        ],
    )
    key = f"images/2026/11/20/{task.id}/0-{'a' * 16}.webp"
    sides = {
        "width": 256,
        "height": 256,
        "bytes": 1,
        "sha256": "a" * 64,
        "format": "webp",
        "content_type": "image/webp",
    }
    Image.objects.create(id=image_id(task.id, 0), task=task, index=0, seed=7, key=key, thumbnail_key=key, **sides)
    return task


def test_the_list_shows_state_text_and_thumbnail_with_few_queries(
    staff: Client, finished: Task, make_task: MakeTask, django_assert_max_num_queries: Callable
) -> None:
    for _ in range(10):
        make_task()
    with django_assert_max_num_queries(12):
        page = staff.get("/admin/generation/task/").content.decode()
    assert finished.public_id in page
    assert "/files/images/" in page
    assert "<script>alert(1)" not in page


def test_a_task_is_found_by_its_id_and_by_words(staff: Client, finished: Task, make_task: MakeTask) -> None:
    other = make_task(text="blue fish")
    by_id = staff.get("/admin/generation/task/", {"q": finished.public_id}).content.decode()
    by_word = staff.get("/admin/generation/task/", {"q": "fish"}).content.decode()
    assert finished.public_id in by_id
    assert other.public_id not in by_id
    assert other.public_id in by_word
    assert finished.public_id not in by_word


def test_the_page_of_a_task_shows_its_parameters_and_history(staff: Client, finished: Task) -> None:
    page = staff.get(f"/admin/generation/task/{finished.pk}/change/").content.decode()
    assert "running, worker gpu1-4711-5f3a, attempt 1" in page
    assert "queued, reason worker lost: it died" in page
    assert "2026-01-02T03:04:06.007" in page
    assert "&quot;cfg_scale&quot;: 4.0" in page
    assert "<script>alert(1)" not in page


def test_the_cancel_action_ends_waiting_tasks(staff: Client, make_task: MakeTask) -> None:
    task = make_task()
    chosen = {"action": "cancel_tasks", "_selected_action": [str(task.pk)]}
    assert staff.post("/admin/generation/task/", chosen).status_code == 302
    task.refresh_from_db()
    assert task.status == "cancelled"


def test_a_new_key_is_shown_once_after_saving(staff: Client, owner: User) -> None:
    form = {"user": owner.pk, "name": "shop", "scopes": "[]", "plan": ""}
    page = staff.post("/admin/generation/apikey/add/", form, follow=True).content.decode()
    row = ApiKey.objects.get(name="shop")
    assert f"igx_{row.prefix}_" in page
    assert f"igx_{row.prefix}_" not in staff.get("/admin/generation/apikey/").content.decode()


@pytest.mark.parametrize(
    "table",
    [
        "imagemodel",
        "modelpreset",
        "style",
        "lora",
        "plan",
        "team",
        "user",
        "apikey",
        "delivery",
        "alert",
        "webhookendpoint",
        "blockedterm",
        "policyprofile",
        "policyrefusal",
    ],
)
def test_every_list_opens(staff: Client, table: str) -> None:
    assert staff.get(f"/admin/generation/{table}/").status_code == 200


def act(staff: Client, action: str, *tasks: Task) -> None:
    chosen = {"action": action, "_selected_action": [str(task.pk) for task in tasks]}
    assert staff.post("/admin/generation/task/", chosen).status_code == 302


def test_ended_tasks_are_repeated_for_their_users(staff: Client, make_task: MakeTask, owner: User) -> None:
    failed, waiting = make_task(Status.FAILED), make_task()
    act(staff, "make_again", failed, waiting)
    [new] = Task.objects.exclude(pk__in=[failed.pk, waiting.pk])
    assert (new.status, new.user, new.text, new.params["seed"]) == ("queued", owner, failed.text, 7)


def test_waiting_tasks_are_re_prioritised_in_bulk_and_others_stay(staff: Client, make_task: MakeTask) -> None:
    waiting, running = [make_task(), make_task()], make_task(Status.RUNNING)
    for task in waiting:
        enqueue.enqueue(task)
    act(staff, "to_p0", *waiting, running)
    assert [Task.objects.get(pk=task.pk).priority for task in (*waiting, running)] == [0, 0, 2]
    assert "P0" in Task.objects.get(pk=waiting[0].pk).history[-1]["reason"]
    assert redis_clients.bytes_client().hget(f"gq:t:{waiting[0].pk}", "cls") == b"0"


def test_without_redis_nothing_is_re_prioritised(
    staff: Client, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task()
    nowhere = redis.Redis(port=1, socket_connect_timeout=1)
    monkeypatch.setattr(queue_client, "_script", lambda name: nowhere.register_script("return 1"))
    act(staff, "to_p0", task)
    assert Task.objects.get(pk=task.pk).priority == 2


def test_the_page_of_queues_and_workers(staff: Client, make_task: MakeTask) -> None:
    redis_clients.bytes_client().flushdb()
    waiting, running = make_task(priority=1), make_task(Status.RUNNING, worker="gpu1-x", progress=40)
    enqueue.enqueue(waiting)
    now_ms = int(time.time() * 1000)
    redis_clients.bytes_client().zadd("gq:lease", {"gpu1-x": now_ms + 60_000, "gpu2-y": now_ms - 60_000})
    redis_clients.bytes_client().sadd("gq:run:gpu1-x", str(running.pk))
    for name in ("gpu1-x", "gpu2-y"):
        alerts.pools().arrive(name, "gpu-worker")
    answer = staff.get("/admin/generation/task/queues/")
    page = answer.content.decode()
    assert [line["tasks"] for line in answer.context["queues"]] == [0, 1, 0, 0]
    assert [(worker["name"], worker["alive"]) for worker in answer.context["workers"]] == [
        ("gpu2-y", False),
        ("gpu1-x", True),
    ]
    assert running.public_id in page
    assert "40 %" in page
    assert [(pool.name, pool.live, pool.wanted) for pool in answer.context["pools"]] == [("gpu-worker", 1, 2)]
    assert "incomplete" in page
    redis_clients.bytes_client().flushdb()


def test_the_form_of_a_plan_says_how_requests_are_counted(staff: Client) -> None:
    page = staff.get("/admin/generation/plan/add/").content.decode()
    assert "Counted per API key, and per user and IP address." in page
    assert "Per IP address." not in page


def test_the_page_of_queues_is_for_staff(client_of: Callable[..., Client], owner: User) -> None:
    assert client_of(owner).get("/admin/generation/task/queues/").status_code == 302


def upload(staff: Client, data: bytes, **form: object) -> str:
    file = SimpleUploadedFile("x.safetensors", data)
    fields = {"name": "ink", "base_family": "sd15", "owner": "", "file": file, **form}
    return staff.post("/admin/generation/lora/add/", fields, follow=True).content.decode()


def test_a_lora_is_uploaded_for_everybody_enabled_and_disabled(staff: Client) -> None:
    upload(staff, lora_bytes())
    row = Lora.objects.get()
    assert (row.name, row.version, row.owner, row.rank, row.state, row.base_family) == (
        "ink", 1, None, 4, "active", "sd15"
    )  # fmt: skip
    upload(staff, lora_bytes(8))
    assert list(Lora.objects.order_by("version").values_list("version", "rank")) == [(1, 4), (2, 8)]
    for action, state in (("disable", "disabled"), ("enable", "active"), ("withdraw", "deleted")):
        staff.post("/admin/generation/lora/", {"action": action, "_selected_action": [row.pk]})
        row.refresh_from_db()
        assert row.state == state
    assert Path(row.source).exists(), "tasks that wait are made with it"


def test_a_file_that_is_no_lora_is_refused_at_its_field(staff: Client) -> None:
    page = upload(staff, pickle.dumps({"lora_A": [1.0] * 100}))
    assert "The file is not in safetensors format." in page
    assert "A name has 1 to 50 small letters" in upload(staff, lora_bytes(), name="../x")
    assert Lora.objects.count() == 0


def test_the_file_facts_of_a_lora_are_read_only(staff: Client) -> None:
    upload(staff, lora_bytes())
    row = Lora.objects.get()
    changed = {"title": "Ink", "sha256": "0" * 64, "uses": 99, "state": "disabled", "name": "other"}
    staff.post(f"/admin/generation/lora/{row.pk}/change/", changed)
    after = Lora.objects.get()
    assert (after.title, after.sha256, after.uses, after.state, after.name) == ("Ink", row.sha256, 0, "active", "ink")


def changes_of(row: models.Model) -> list[tuple[str | None, str, set[str]]]:
    entries = LogEntry.objects.get_for_object(row).order_by("id")
    return [(entry.actor and entry.actor.username, entry.get_action_display(), set(entry.changes)) for entry in entries]


def test_changes_are_audited_with_their_actor(staff: Client, client_of: Callable[..., Client], owner: User) -> None:
    style = Style.objects.get(name="cartoon")
    form = {"name": "cartoon", "title": "Cartoon!", "prompt": "{text}", "tone": "{}", "position": 1, "enabled": "on"}
    assert staff.post(f"/admin/generation/style/{style.pk}/change/", form).status_code == 302
    [(actor, action, fields)] = changes_of(style)
    assert (actor, action) == ("root", "update")
    assert {"title", "prompt"} <= fields
    client = client_of(owner)
    made = client.post("/api/v1/keys", {}, content_type="application/json").json()["data"]
    client.delete(f"/api/v1/keys/{made['prefix']}")
    created, revoked = changes_of(ApiKey.objects.get(prefix=made["prefix"]))
    assert (created[:2], revoked) == (("owner", "create"), ("owner", "update", {"revoked_at"}))
    assert "digest" not in created[2]
    page = staff.get("/admin/auditlog/logentry/").content.decode()
    assert "Cartoon!" in page


def test_a_change_without_an_ip_address_is_audited_too(owner: User, client_of: Callable) -> None:
    client = client_of(owner)
    client.defaults["REMOTE_ADDR"] = "unix:"
    made = client.post("/api/v1/keys", {}, content_type="application/json").json()["data"]
    [entry] = LogEntry.objects.get_for_object(ApiKey.objects.get(prefix=made["prefix"]))
    assert (entry.actor, entry.remote_addr) == (owner, None)


LISTS = [
    "",
    "?created=90",
    "?created=30&status__exact=failed",
    "?kind=img2img&style=cartoon",
    "?priority=0&model=1&p=2",
    "?q=fish",
    "?o=3&all=",
]


@pytest.mark.parametrize("query", LISTS)
def test_a_list_of_tasks_costs_the_same_with_ten_million(
    staff: Client, finished: Task, query: str, django_assert_max_num_queries: Callable
) -> None:
    """Whatever touches the table of tasks is bounded by days, in the order of its key, and looks no further than the
    limit. Nothing is counted, grouped or made distinct.
    """
    with django_assert_max_num_queries(14) as seen:
        assert staff.get(f"/admin/generation/task/{query}").status_code in (200, 302)
    touching = [entry["sql"] for entry in seen.captured_queries if '"generation_task"' in entry["sql"]]
    assert " LIMIT " in touching[0], "what looks how many there are; a page of few takes them all"
    for sql in touching:
        assert "COUNT(" not in sql
        assert "DISTINCT" not in sql
        assert 'ORDER BY "generation_task"."id" DESC' in sql
        assert '"generation_task"."id" >= ' in sql
        assert '"generation_task"."id" < ' in sql


@pytest.mark.parametrize("table", ["delivery", "policyrefusal"])
def test_other_lists_that_grow_are_not_counted_either(
    staff: Client, table: str, django_assert_max_num_queries: Callable
) -> None:
    with django_assert_max_num_queries(12) as seen:
        assert staff.get(f"/admin/generation/{table}/?q=x").status_code == 200
    for entry in seen.captured_queries:
        assert not (
            f'"generation_{table}"' in entry["sql"] and ("COUNT(" in entry["sql"] or "DISTINCT" in entry["sql"])
        )


def test_the_admin_speaks_the_browsers_language_and_the_api_english(staff: Client, client_of: Any, owner: User) -> None:
    chinese = staff.get("/admin/", headers={"accept-language": "zh-CN,zh;q=0.9"})
    english = staff.get("/admin/", headers={"accept-language": "de"})
    assert 'lang="zh-hans"' in chinese.content.decode()
    assert "最近动作" in chinese.content.decode() or "注销" in chinese.content.decode()
    assert 'lang="en"' in english.content.decode()
    assert "Accept-Language" in chinese.headers["Vary"]
    faults = client_of(owner).post("/api/v1/image/generate", {}, headers={"accept-language": "zh-CN"})
    assert "Accept-Language" not in faults.headers.get("Vary", "")
    assert faults.json()["data"]["errors"][0]["message"].isascii()
