"""An identical request with a seed gets the picture of an earlier one; nothing else of a task is shared."""

from dataclasses import replace

import numpy as np
import pytest
from django.conf import settings as site_settings
from redis import Redis

from fixtures.fleet import submit
from generation.accounts.models import User
from generation.catalogue.parameters import Parameters
from generation.queue.values import BatchKey
from generation.queue.worker import Claimed
from generation.tasks import delete, results
from generation.tasks.models import Task
from imagegenx_site import redis_clients
from storage import keys, raw
from storage.store import get_store
from workers.gpu import persistence, task_claims
from workers.gpu.outcomes import End, Outcome
from workers.housekeeping import raw_store
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


def claim(task):
    claimed = Claimed(str(task.id), task.priority, BatchKey.parse(task.batch_key), 1, "{}")
    (running,) = task_claims.claim_rows([claimed], WORKER).running
    return running


def run(running, *, grey=0.5, warnings=()):
    """What the engine does: a picture for each sample that it was given."""
    running.warnings += warnings
    for sample in running.to_admit:
        index = sample.sample_id.index
        running.images[index] = np.full((sample.height, sample.width, 3), grey, np.float32)
    persistence.persist_pictures(running, WORKER)


def picture(task, index=0):
    task.refresh_from_db()
    return raw.read(keys.raw_key(task.id, index, task.attempt))


def test_an_identical_request_of_another_user_has_the_same_picture_and_its_own_rows(user):
    first, second = task_of(user), task_of(User.objects.create(username="other"))
    run(claim(first), warnings=["the prompt was cut"])
    running = claim(second)
    assert not running.to_admit
    assert running.outcome == Outcome(End.FINISHED)
    assert running.percent == 99
    run(running)
    assert picture(first) == picture(second)
    assert (second.status, second.attempt, second.worker) == ("generated", 1, WORKER)
    assert [entry["to"] for entry in second.history] == ["running", "generated"]
    assert second.warnings == ["the prompt was cut"]


def test_only_the_pictures_that_are_missing_are_made(user):
    run(claim(task_of(user, seed=8)), grey=0.25)
    task = task_of(user, seed=7, num_images=3)
    running = claim(task)
    assert [sample.seed for sample in running.to_admit] == [7, 9]
    run(running, grey=0.75)
    assert picture(task, 0) == picture(task, 2) != picture(task, 1)
    assert picture(task, 1) == picture(Task.objects.order_by("id").first())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"cache": False}, {}), ({}, {"cache": False}), ({}, {"seed": 9}), ({}, {"text": "blue circle"}),
        ({}, {"deterministic": True}), ({}, {"negative_text": "grey"}),
    ],
)  # fmt: skip
def test_what_is_not_identical_or_not_wished_is_made(user, first, second):
    run(claim(task_of(user, **first)))
    assert len(claim(task_of(user, **second)).to_admit) == 1


def test_a_new_revision_of_the_model_makes_it_anew(user):
    run(claim(task_of(user)))
    task = task_of(user)
    task.model.revision = "another"
    task.model.save(update_fields=["revision"])
    assert len(claim(task).to_admit) == 1


def test_a_deleted_task_deletes_the_cached_picture(user):
    first, second = task_of(user), task_of(user)
    run(claim(first))
    run(claim(second))  # used it, so its owner's wish counts as well
    delete.delete_task(second)
    assert [found.key for found in get_store("raw").list(keys.RESULTS)] == []
    assert len(claim(task_of(user)).to_admit) == 1


def test_without_redis_or_the_object_the_picture_is_made(user, settings, monkeypatch):
    run(claim(task_of(user)))
    for found in get_store("raw").list(keys.RESULTS):
        get_store("raw").delete(found.key)
    assert len(claim(task_of(user)).to_admit) == 1
    run(claim(task_of(user)))
    nowhere = Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.2)
    monkeypatch.setattr(redis_clients, "text_client", lambda: nowhere)
    running = claim(task_of(user))
    assert len(running.to_admit) == 1
    run(running)


def test_the_result_cache_can_be_disabled_and_expires(user, settings):
    settings.RESULT_CACHE_HOURS = 0
    run(claim(task_of(user)))
    assert list(get_store("raw").list(keys.RESULTS)) == []
    settings.RESULT_CACHE_HOURS = 1
    run(claim(task_of(user)))
    client = Redis.from_url(site_settings.REDIS_URL)
    assert all(0 < client.ttl(key) <= 3600 for key in client.keys("gq:res:*") if key != b"gq:res:count")
    raw_store.sweep_raw_store()
    assert housekeeping_results.sweep_results() == 0
    settings.RESULT_CACHE_HOURS = -1  # everything is older than that
    housekeeping_results.sweep_results()
    assert list(get_store("raw").list(keys.RESULTS)) == []


def test_hits_and_misses_are_counted(user):
    run(claim(task_of(user)))
    claim(task_of(user))
    assert results.counted() == {"hits": 1, "misses": 1}
