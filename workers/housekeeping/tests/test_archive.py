"""Pictures that nobody opened go to the archive, and come back for the first who asks."""

import hashlib
import io
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from fixtures.rows import keep_picture
from generation.tasks import partitions
from generation.tasks.models import Image, Task
from generation.tasks.tests.test_partitions import id_on
from imagegenx_site import caches, redis_clients
from storage import keys, openings
from storage.store import get_store
from workers.housekeeping import archive


def today() -> date:
    """When the test runs, not when it was collected: a suite may run over midnight."""
    return datetime.now(UTC).date()


MakeTask = Callable[..., Task]


@pytest.fixture(autouse=True)
def fresh_openings() -> None:
    redis_clients.cache_client().delete("gx:opened", "gx:archive:asked")
    openings.openings.cache_clear()


@pytest.fixture
def image_of(seeded: None, make_task: MakeTask) -> Callable[[int], Image]:
    """A picture whose task was made so many days ago."""

    def make(days: int) -> Image:
        day = today() - timedelta(days=days)
        partitions.ensure(day, 1)
        return keep_picture(make_task("succeeded", id=id_on(day)), 0)

    return make


def test_old_and_unopened_is_archived_opened_or_young_is_not(image_of: Any) -> None:
    unopened, used, young = image_of(50), image_of(45), image_of(3)
    openings.openings().note(used.key)
    openings.openings().flush()
    assert archive.archive_unopened(30) == 1
    assert archive.archive_unopened(30) == 0
    assert get_store("images").exists(keys.archive_key(unopened.key))
    assert get_store("images").exists(used.key)
    assert get_store("images").exists(young.key)
    assert set(Image.objects.exclude(archived_at=None)) == {unopened}


def test_an_interrupted_run_is_noted_by_the_next(image_of: Any, monkeypatch: Any) -> None:
    image = image_of(50)
    get_store("images").put(keys.archive_key(image.key), get_store("images").read(image.key))
    get_store("images").delete(image.key)  # moved, then killed before the row was written
    assert archive.archive_unopened(30) == 0
    image.refresh_from_db()
    assert image.archived_at is not None


@pytest.mark.parametrize("way", ["address", "key"])
def test_the_first_request_starts_the_return_and_is_told_when(
    image_of: Any, client_of: Any, owner: Any, way: str
) -> None:
    image, client = image_of(50), client_of(owner)
    archive.archive_unopened(30)
    caches.tasks().invalidate(str(image.task_id))
    task = f"/api/v1/image/task/{image.task.public_id}"
    address = client.get(task).json()["data"]["outputs"][0]["url"] if way == "address" else f"{task}/image"
    for _ in range(2):
        answer = client.get(address)
        assert (answer.status_code, answer["Retry-After"]) == (202, "60")
    if way == "key":
        body = answer.json()["data"]
        assert body["status"] == "archived"
        assert datetime.now(UTC) < datetime.fromisoformat(body["ready_at"])
    assert archive.bring_back() == 1
    assert client.get(address).status_code == 200
    image.refresh_from_db()
    assert image.archived_at is None
    assert client.get(f"{task}/image?variant=thumbnail").status_code == 200
    openings.openings().flush()
    assert archive.archive_unopened(30) == 0  # it counts as opened now


def test_thumbnails_stay_and_a_medium_variant_waits_for_the_original(image_of: Any, client_of: Any, owner: Any) -> None:
    image, client = image_of(50), client_of(owner)
    archive.archive_unopened(30)
    address = f"/api/v1/image/task/{image.task.public_id}/image?variant="
    assert client.get(address + "thumbnail").status_code == 200
    assert client.get(address + "medium").status_code == 202
    archive.bring_back()
    assert client.get(address + "medium").status_code == 200


def test_a_zip_says_what_is_in_the_archive_and_asks_for_it(image_of: Any, client_of: Any, owner: Any) -> None:
    image = image_of(50)
    archive.archive_unopened(30)
    body = {"task_ids": [image.task.public_id]}
    answer = client_of(owner).post("/api/v1/image/download", body, "application/json")
    found = zipfile.ZipFile(io.BytesIO(b"".join(answer)))
    assert "in the archive, back after" in found.read("MISSING.txt").decode()
    assert archive.bring_back() == 1
    assert hashlib.sha256(get_store("images").read(image.key)).hexdigest() == image.sha256


def test_a_deleted_task_leaves_nothing_in_the_archive(image_of: Any, client_of: Any, owner: Any) -> None:
    image = image_of(50)
    archive.archive_unopened(30)
    assert client_of(owner).delete(f"/api/v1/image/task/{image.task.public_id}").status_code == 200
    assert list(get_store("images").list("")) == []
