"""Batches, history, downloads, retry and delete."""

import io
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from fixtures.rows import finish, keep_picture
from generation.accounts.models import User
from generation.tasks import partitions
from generation.tasks.models import Batch, Image, Status, Task
from imagegenx_site.ids import uuid7
from storage.store import get_store
from workers.engine.requests import TaskBatch
from workers.gpu.samples import samples_of

ClientOf = Callable[..., Client]
MakeTask = Callable[..., Task]


@pytest.fixture
def client(client_of: ClientOf, owner: User) -> Client:
    return client_of(owner)


def make_batch(client: Client, **more: Any) -> Any:
    body = {"texts": ["a red circle", "蓝色方形", "a star"], "params": {"seed": 10, "num_images": 2}, **more}
    return client.post("/api/v1/image/batch-generate", json.dumps(body), content_type="application/json")


def content(response: Any) -> bytes:
    """The body of a streamed answer."""

    async def read() -> bytes:
        return b"".join([piece async for piece in response.streaming_content])

    if response.is_async:
        return async_to_sync(read)()
    return b"".join(response.streaming_content)


def test_a_batch_is_one_task_for_each_text_with_seeds_of_its_own(client: Client) -> None:
    response = make_batch(client, batch_size=8)
    assert response.status_code == 202, response.content
    data = response.json()["data"]
    assert (data["status"], data["size"], data["batch_size"], data["counts"]) == ("queued", 3, 8, {"queued": 3})
    assert response["Location"] == data["query_url"]
    tasks = list(Task.objects.order_by("id"))
    assert [task.text for task in tasks] == ["a red circle", "蓝色方形", "a star"]
    assert [task.params["seed"] for task in tasks] == [10, 12, 14]
    assert client.get(data["query_url"]).json()["data"]["tasks"][1]["text"] == "蓝色方形"


def test_a_batch_without_batch_size_has_no_limit_and_one_with_it_hands_it_to_the_samples(client: Client) -> None:
    assert make_batch(client).json()["data"]["batch_size"] is None
    assert {sample.batch for task in Task.objects.all() for sample in samples_of(task, alone=False)} == {None}
    Task.objects.all().delete()
    make_batch(client, batch_size=1)
    batch = TaskBatch(str(Batch.objects.latest("created_at").id), 1)
    assert {sample.batch for task in Task.objects.all() for sample in samples_of(task, alone=False)} == {batch}


@pytest.mark.parametrize(
    ("more", "field"), [({"texts": []}, "texts"), ({"texts": ["x"] * 101}, "texts"), ({"batch_size": 17}, "batch_size")]
)
def test_the_bounds_of_a_batch(client: Client, more: dict, field: str) -> None:
    response = make_batch(client, **more)
    assert response.status_code == 400
    assert response.json()["data"]["errors"][0]["field"] == field
    assert (Task.objects.count(), Batch.objects.count()) == (0, 0)


def test_a_repeated_batch_is_the_same_batch(client: Client) -> None:
    def send() -> Any:
        body = json.dumps({"texts": ["x", "y"]})
        headers = {"idempotency-key": "b"}
        return client.post("/api/v1/image/batch-generate", body, content_type="application/json", headers=headers)

    first, again = send(), send()
    assert first.json()["data"]["batch_id"] == again.json()["data"]["batch_id"]
    assert (again["Idempotency-Replayed"], Task.objects.count(), Batch.objects.count()) == ("true", 2, 1)


def test_joint_status_zip_and_cancel(client: Client, client_of: ClientOf, make_user: Any) -> None:
    address = make_batch(client).json()["data"]["query_url"]
    assert client.get(f"{address}/download").status_code == 409
    first, *_ = Task.objects.order_by("id")
    finish(first, 2)
    assert client.get(address).json()["data"]["status"] == "running"
    with zipfile.ZipFile(io.BytesIO(content(client.get(f"{address}/download")))) as archive:
        assert archive.namelist() == [f"{first.public_id}-{index} {first.text[:40]}.webp" for index in (0, 1)]
        assert archive.testzip() is None
    data = client.post(f"{address}/cancel").json()["data"]
    assert (data["status"], data["progress"]) == ("partial", 100)
    assert data["counts"] == {"succeeded": 1, "canceled": 2}
    stranger = client_of(make_user("stranger"))
    answers = [stranger.get(address), stranger.get(f"{address}/download"), stranger.post(f"{address}/cancel")]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert client_of(make_user("mate", team="shop")).get(address).status_code == 200


def test_a_zip_of_any_tasks(client: Client, make_task: MakeTask, client_of: ClientOf, make_user: Any) -> None:
    done, open_task = finish(make_task()), make_task()
    body = json.dumps({"task_ids": [done.public_id, open_task.public_id]})
    response = client.post("/api/v1/image/download", body, content_type="application/json")
    assert response["Content-Type"] == "application/zip"
    data = content(response)
    assert int(response["Content-Length"]) == len(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == [f"{done.public_id}-0 red circle.webp"]
    stranger = client_of(make_user("stranger"))
    assert stranger.post("/api/v1/image/download", body, content_type="application/json").status_code == 404


def test_a_picture_that_the_store_lost_is_named_in_the_zip_whose_length_is_not_promised(
    client: Client, make_task: MakeTask
) -> None:
    done = finish(make_task(), 2)
    get_store("images").delete(Image.objects.order_by("index")[0].key)
    response = client.post(
        "/api/v1/image/download", json.dumps({"task_ids": [done.public_id]}), content_type="application/json"
    )
    assert "Content-Length" not in response
    with zipfile.ZipFile(io.BytesIO(content(response))) as archive:
        assert archive.namelist() == [f"{done.public_id}-1 red circle.webp", "MISSING.txt"]


def test_a_picture_that_vanishes_under_way_is_named_in_its_place_and_the_answer_keeps_its_length(
    live: str, owner: User, key_of: Callable[..., str], make_task: MakeTask
) -> None:
    done, store = finish(make_task(), 3), get_store("images")
    objects = list(Image.objects.order_by("index").values_list("key", flat=True))
    for key in objects:
        store.put(key, bytes(12 << 20))  # more than lies in the sockets between the two
    asked: dict[str, Any] = {
        "headers": {"authorization": f"Bearer {key_of(owner)}"},
        "json": {"task_ids": [done.public_id]},
    }
    with httpx.stream("POST", f"{live}/api/v1/image/download", timeout=30, **asked) as answer:
        pieces = answer.iter_bytes()
        written = next(pieces)
        store.delete(objects[2])
        written += b"".join(pieces)
    assert int(answer.headers["content-length"]) == len(written)
    with zipfile.ZipFile(io.BytesIO(written)) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[2] == f"{done.public_id}-2 red circle_.txt"
        assert archive.read(archive.namelist()[2]).strip().endswith(b"could not be included: no longer stored.")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("../../../etc/cron.d/x", " .._.._.._etc_cron.d_x"),
        ("雪中的红狐狸", " 雪中的红狐狸"),
        ("a\nb\u202e: c?", " ab_ c_"),
        ("", ""),
    ],
)
def test_a_text_names_its_picture_and_never_becomes_a_path(
    client: Client, make_task: MakeTask, text: str, name: str
) -> None:
    done = finish(make_task(text=text))
    body = json.dumps({"task_ids": [done.public_id]})
    response = client.post("/api/v1/image/download", body, content_type="application/json")
    with zipfile.ZipFile(io.BytesIO(content(response))) as archive:
        assert archive.namelist() == [f"{done.public_id}-0{name}.webp"]


def test_the_history_is_paged_newest_first(client: Client, make_task: MakeTask) -> None:
    made = [make_task() for _ in range(5)]
    first = client.get("/api/v1/image/tasks?limit=2").json()["data"]
    second = client.get(f"/api/v1/image/tasks?limit=2&cursor={first['next_cursor']}").json()["data"]
    third = client.get(f"/api/v1/image/tasks?limit=2&cursor={second['next_cursor']}").json()["data"]
    ids = [item["task_id"] for page in (first, second, third) for item in page["items"]]
    assert ids == [task.public_id for task in reversed(made)]
    assert (first["has_more"], third["has_more"], third["next_cursor"]) == (True, False, None)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("status=queued", 2),
        ("status=succeeded", 0),
        ("status=running", 1),
        ("style=cartoon", 1),
        ("model=mini", 3),
        ("model=other", 0),
        ("resolution=256x256", 2),
        ("resolution=512×512", 1),
        ("kind=text2img", 3),
        ("text=FISH", 1),
        ("batch_id=bat00000000000070008000000000000000", 0),
    ],
)
def test_the_history_is_filtered(client: Client, make_task: MakeTask, query: str, found: int) -> None:
    make_task(text="a blue fish", style="cartoon")
    make_task(width=512, height=512)
    make_task(Status.PROCESSED)
    assert len(client.get(f"/api/v1/image/tasks?{query}").json()["data"]["items"]) == found


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "status=nope", "since=x", "cursor=zzz", "resolution=big", "x=1"]
)
def test_a_wrong_query_is_400(client: Client, query: str) -> None:
    assert client.get(f"/api/v1/image/tasks?{query}").status_code == 400


def test_the_history_reads_only_the_days_asked_for(client: Client, make_task: MakeTask) -> None:
    today = datetime.now(UTC).date()
    partitions.ensure(today - timedelta(days=5), 5)
    old = make_task(id=uuid7(int((datetime.now(UTC) - timedelta(days=3)).timestamp() * 1000)))
    make_task()
    day = (today - timedelta(days=3)).isoformat()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        items = client.get(f"/api/v1/image/tasks?since={day}&until={day}").json()["data"]["items"]
    assert [item["task_id"] for item in items] == [old.public_id]
    [listing] = [query["sql"] for query in queries if "ORDER BY" in query["sql"] and "generation_task" in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN " + listing)
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert f"generation_task_{day.replace('-', '')}" in plan
    assert "generation_task_default" not in plan
    assert f"generation_task_{today:%Y%m%d}" not in plan


def test_the_history_is_the_users_own_and_the_teams_on_demand(
    client: Client, client_of: ClientOf, make_user: Any, make_task: MakeTask
) -> None:
    make_task()
    mate, stranger = client_of(make_user("mate", team="shop")), client_of(make_user("stranger"))
    counts = [len(who.get("/api/v1/image/tasks").json()["data"]["items"]) for who in (client, mate, stranger)]
    assert counts == [1, 0, 0]
    team = [len(who.get("/api/v1/image/tasks?team=true").json()["data"]["items"]) for who in (mate, stranger)]
    assert team == [1, 0]


def test_retry_makes_a_new_task_with_the_same_parameters(client: Client, make_task: MakeTask) -> None:
    task = make_task(Status.FAILED)
    response = client.post(f"/api/v1/image/task/{task.public_id}/retry")
    assert response.status_code == 202
    new = Task.objects.exclude(pk=task.pk).get()
    assert (new.status, new.params["seed"], new.text) == ("queued", 7, "red circle")
    assert client.post(f"/api/v1/image/task/{new.public_id}/retry").status_code == 409
    assert Task.objects.count() == 2


def test_a_deleted_task_is_gone_with_its_text_and_pictures(client: Client, make_task: MakeTask) -> None:
    task = finish(make_task())
    key = Image.objects.get().key
    address = f"/api/v1/image/task/{task.public_id}"
    assert client.delete(address).json()["data"] == {"task_id": task.public_id, "deleted": True}
    assert [client.get(address).status_code, client.delete(address).status_code] == [404, 404]
    assert client.get("/api/v1/image/tasks").json()["data"]["items"] == []
    assert not get_store("images").exists(key)
    task.refresh_from_db()
    assert (task.text, task.params["text"], Image.objects.count()) == ("", "", 0)


def test_deleting_an_open_task_cancels_it(client: Client, make_task: MakeTask) -> None:
    task = make_task()
    assert client.delete(f"/api/v1/image/task/{task.public_id}").status_code == 200
    task.refresh_from_db()
    assert task.status == "cancelled"


def test_an_unchanged_task_is_304(client: Client, make_task: MakeTask) -> None:
    address = f"/api/v1/image/task/{make_task().public_id}"
    etag = client.get(address)["ETag"]
    again = client.get(address, headers={"if-none-match": etag})
    assert (again.status_code, again.content) == (304, b"")
    finish(Task.objects.get())
    assert client.get(address, headers={"if-none-match": etag}).status_code == 200


def test_each_size_of_a_picture_can_be_fetched(client: Client, make_task: MakeTask) -> None:
    task = finish(make_task())
    for variant in ("original", "medium", "thumbnail"):
        response = client.get(f"/api/v1/image/task/{task.public_id}/image?variant={variant}")
        assert (response.status_code, response["Content-Type"]) == (200, "image/webp")
    assert client.get(f"/api/v1/image/task/{task.public_id}/image?variant=huge").status_code == 400
    assert client.get(f"/api/v1/image/task/{task.public_id}/image?index=5").status_code == 404


def test_pictures_of_a_task_that_was_lost_by_the_store_are_404(client: Client, make_task: MakeTask) -> None:
    task = make_task(Status.SUCCEEDED)
    image = keep_picture(task, 0)
    get_store("images").delete(image.key)
    assert client.get(f"/api/v1/image/task/{task.public_id}/image").status_code == 404
