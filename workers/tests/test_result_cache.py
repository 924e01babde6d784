"""An identical request with a seed gets the picture of an earlier one; nothing else of a task is shared."""

from dataclasses import replace

import numpy as np
import pytest
from django.conf import settings as site_settings
from redis import Redis

from fixtures.fleet import submit
from generation.accounts.models import User
from generation.catalogue.parameters import Parameters
from generation.queue.buffer import Claimed
from generation.tasks import delete, results
from generation.tasks.models import Task
from imagegenx_site import redis_clients
from storage import keys, raw
from storage.store import get_store
from workers.gpu import delivery, rows
from workers.housekeeping import leftovers
from workers.housekeeping import results as housekeeping_results

WORKER = "gpu1-a"


@pytest.fixture(autouse=True)
def folders(tmp_path, settings):
    """Stores in a folder of the test."""
    disk = {"BACKEND": "django.core.files.storage.FileSystemStorage"}
    settings.STORAGES = settings.STORAGES | {
        name: {**disk, "OPTIONS": {"location": str(tmp_path / name), "base_url": None}} for name in ("images", "raw")
    }


def task_of(user, *, cache=True, **params):
    (task_id,) = submit(user, num_images=params.pop("num_images", 1))
    task = Task.objects.get(pk=task_id)
    task.params = replace(Parameters.from_json(task.params), cache=cache, **params).to_json()
    task.save(update_fields=["params"])
    return task


def board(task):
    claimed = Claimed(str(task.id), task.priority, task.batch_key, 1, "{}")
    (held,) = rows.board([claimed], WORKER).held
    return held


def run(held, *, grey=0.5, warnings=()):
    """Stands for the engine: a picture for each sample."""
    held.warnings += warnings
    for sample in held.to_admit:
        index = int(sample.sample_id.rpartition("/")[2])
        held.images[index] = np.full((sample.height, sample.width, 3), grey, np.float32)
    delivery.deliver(held, WORKER)


def picture(task, index=0):
    task.refresh_from_db()
    return raw.read(keys.raw_key(task.id, index, task.attempt))


def test_an_identical_request_of_another_user_has_the_same_picture_and_its_own_rows(user):
    first, second = task_of(user), task_of(User.objects.create(username="other"))
    run(board(first), warnings=["the prompt was cut"])
    held = board(second)
    assert not held.to_admit
    assert held.complete
    assert held.percent == 99
    run(held)
    assert picture(first) == picture(second)
    assert (second.status, second.attempt, second.worker) == ("generated", 1, WORKER)
    assert [entry["to"] for entry in second.history] == ["running", "generated"]
    assert second.warnings == ["the prompt was cut"]


def test_only_missing_pictures_are_generated(user):
    run(board(task_of(user, seed=8)), grey=0.25)
    task = task_of(user, seed=7, num_images=3)
    held = board(task)
    assert [sample.seed for sample in held.to_admit] == [7, 9]
    run(held, grey=0.75)
    assert picture(task, 0) == picture(task, 2) != picture(task, 1)
    assert picture(task, 1) == picture(Task.objects.order_by("id").first())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"cache": False}, {}), ({}, {"cache": False}), ({}, {"seed": 9}), ({}, {"text": "blue circle"}),
        ({}, {"deterministic": True}), ({}, {"negative_text": "grey"}),
    ],
)  # fmt: skip
def test_different_or_uncached_requests_are_generated(user, first, second):
    run(board(task_of(user, **first)))
    assert len(board(task_of(user, **second)).to_admit) == 1


def test_a_new_revision_of_the_model_generates_again(user):
    run(board(task_of(user)))
    task = task_of(user)
    task.model.revision = "another"
    task.model.save(update_fields=["revision"])
    assert len(board(task).to_admit) == 1


def test_a_deleted_task_deletes_the_cached_picture(user):
    first, second = task_of(user), task_of(user)
    run(board(first))
    run(board(second))  # used it, so its owner's wish counts as well
    delete.delete_task(second)
    assert [found.key for found in get_store("raw").list(keys.RESULTS)] == []
    assert len(board(task_of(user)).to_admit) == 1


def test_without_redis_or_the_object_the_picture_is_generated(user, settings, monkeypatch):
    run(board(task_of(user)))
    for found in get_store("raw").list(keys.RESULTS):
        get_store("raw").delete(found.key)
    assert len(board(task_of(user)).to_admit) == 1
    run(board(task_of(user)))
    nowhere = Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.2)
    monkeypatch.setattr(redis_clients, "text_client", lambda: nowhere)
    held = board(task_of(user))
    assert len(held.to_admit) == 1
    run(held)


def test_the_result_cache_can_be_disabled_and_expires(user, settings):
    settings.RESULT_CACHE_HOURS = 0
    run(board(task_of(user)))
    assert list(get_store("raw").list(keys.RESULTS)) == []
    settings.RESULT_CACHE_HOURS = 1
    run(board(task_of(user)))
    client = Redis.from_url(site_settings.REDIS_URL)
    assert all(0 < client.ttl(key) <= 3600 for key in client.keys("gq:res:*") if key != b"gq:res:count")
    leftovers.clear_leftovers()
    assert results.sweep() == 0
    settings.RESULT_CACHE_HOURS = -1  # everything is older than that
    housekeeping_results.sweep_results()
    assert list(get_store("raw").list(keys.RESULTS)) == []


def test_hits_and_misses_are_counted(user):
    run(board(task_of(user)))
    board(task_of(user))
    assert results.counted() == {"hits": 1, "misses": 1}
