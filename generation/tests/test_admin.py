"""Operators find tasks, see what happened to them, and can stop them."""

from collections.abc import Callable

import pytest
from django.test import Client

from generation.models import ApiKey, Image, Status, Task, User
from generation.uuid7 import image_id

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
        Status.SUCCEEDED, text="<script>alert(1)</script>", history=[{"at": "t", "to": "running", "attempt": 1}]
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


def test_the_page_of_a_task_tells_its_parameters_and_history(staff: Client, finished: Task) -> None:
    page = staff.get(f"/admin/generation/task/{finished.pk}/change/").content.decode()
    assert "running, attempt 1" in page
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
        "style",
        "lora",
        "plan",
        "team",
        "user",
        "apikey",
        "delivery",
        "webhookendpoint",
        "blockedterm",
        "policyprofile",
        "policyrefusal",
    ],
)
def test_every_list_opens(staff: Client, table: str) -> None:
    assert staff.get(f"/admin/generation/{table}/").status_code == 200
