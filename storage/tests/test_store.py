import hashlib
import os

import pytest

from storage import keys, raw
from storage.errors import BadKey, ObjectNotFound, VerifyFailed
from storage.store import get_store
from storage.tests.behaviour import check_store

DATA = os.urandom(70_000)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def key(task_id):
    return keys.image_key(task_id, 0, SHA, "image/webp")


@pytest.mark.parametrize("name", ["images", "raw"])
def test_common_behaviour_of_stores(name, task_id):
    check_store(get_store(name), task_id)


def test_a_backend_without_a_driver_of_its_own(settings, task_id):
    """Any backend of Django's interface: here the in-memory one."""
    memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
    settings.STORAGES = {**settings.STORAGES, "raw": memory}
    check_store(get_store("raw"), task_id)


def test_deleting_the_last_file_leaves_no_folders(key, stores_on_disk):
    get_store("images").put(key, DATA)
    get_store("images").delete(key)
    assert os.listdir(stores_on_disk / "media") == []


def test_damaged_bytes_are_not_accepted(key, stores_on_disk):
    store = get_store("images")
    store.put(key, DATA)
    path = stores_on_disk / "media" / key
    path.write_bytes(DATA[:-1] + b"?")
    with pytest.raises(VerifyFailed):
        store.driver.prove(key, DATA)
    path.write_bytes(DATA[:100])
    with pytest.raises(VerifyFailed):
        store.driver.prove(key, DATA)


def test_foreign_keys_never_reach_the_disk(stores_on_disk):
    for call in (get_store("images").read, get_store("images").delete, lambda key: get_store("images").put(key, b"")):
        with pytest.raises(BadKey):
            call("../../outside")


def test_raw_pictures_of_two_attempts(task_id):
    first = raw.write_raw(task_id, 0, 1, b"one")
    second = raw.write_raw(task_id, 0, 2, b"two")
    assert (raw.read(first), raw.read(second)) == (b"one", b"two")
    assert raw.delete_task(task_id) == 2
    with pytest.raises(ObjectNotFound):
        raw.read(first)
    assert raw.delete_task(task_id) == 0


@pytest.mark.asyncio
async def test_a_signed_url_answers_until_it_expires(async_client, key):
    store = get_store("images")
    store.put(key, DATA)
    answer = await async_client.get(store.url(key, 60))
    assert (answer.status_code, answer.content, answer["Content-Type"]) == (200, DATA, "image/webp")
    assert (await async_client.get(store.url(key, 60), headers={"If-None-Match": answer["ETag"]})).status_code == 304
    assert (await async_client.get(store.url(key, -1))).status_code == 403
    assert (await async_client.get(store.url(key, 60) + "0")).status_code == 403
    assert (await async_client.get(f"/files/{key}")).status_code == 403
    assert (await async_client.post(store.url(key, 60))).status_code == 405
    store.delete(key)
    assert (await async_client.get(store.url(key, 60))).status_code == 404
