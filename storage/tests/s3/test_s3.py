import hashlib
import io
import os
import threading
import time
import zipfile

import httpx
import pytest
from botocore.exceptions import ClientError
from django.core.management import call_command
from django.test import AsyncClient

from storage import keys
from storage.archive import move_back, move_to_archive
from storage.bucket import BucketPlan, prepare_bucket
from storage.errors import ObjectNotFound, StoreUnavailable
from storage.s3 import MULTIPART_FROM
from storage.store import Store, images
from storage.tests.behaviour import check_store
from storage.tests.s3 import ceph
from storage.zips import REPORT, ZipEntry, stream_zip


def picture(task_id, index: int, size: int = 50_000) -> tuple[str, bytes]:
    data = os.urandom(size)
    return keys.image_key(task_id, index, hashlib.sha256(data).hexdigest(), "image/webp"), data


def test_common_behaviour_of_stores(store, task_id):
    check_store(store, task_id)


def test_it_behaves_below_a_location_too(store, task_id):
    store.driver._backend.location = "customer/pictures/"
    check_store(store, task_id)
    key, data = picture(task_id, 0)
    store.put(key, data)
    assert httpx.get(store.url(key, 60)).content == data
    client = store.driver.client
    assert client.list_objects_v2(Bucket=store.driver.bucket)["Contents"][0]["Key"] == f"customer/pictures/{key}"


def test_presigned_urls_expire_and_cannot_be_changed(store, task_id):
    key, data = picture(task_id, 0)
    store.put(key, data)
    url = store.url(key, 60)
    answer = httpx.get(url)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, data, "image/webp")
    assert httpx.get(url[:-4] + "0000").status_code == 403
    assert httpx.get(url.replace(f"/{task_id}/0-", f"/{task_id}/1-")).status_code == 403
    assert httpx.get(url.split("?")[0]).status_code in (400, 403)
    short = store.url(key, 1)
    time.sleep(2.1)
    assert httpx.get(short).status_code == 403


def test_large_objects_go_in_parts(store, proxy, task_id):
    key, data = picture(task_id, 0, MULTIPART_FROM + (5 << 20))
    assert not store.put(key, data).spooled
    assert store.read(key) == data
    assert sum("partNumber=" in line for line, _ in proxy.requests) == 2
    small, more = picture(task_id, 1, MULTIPART_FROM - 1)
    proxy.requests.clear()
    store.put(small, more)
    assert not any("partNumber=" in line for line, _ in proxy.requests)


def test_a_missing_bucket_is_an_outage_not_a_missing_picture(store, task_id):
    store.driver._backend.bucket_name = "never-made"
    key, data = picture(task_id, 0)
    with pytest.raises(StoreUnavailable):
        Store("images", store.driver).put(key, data)
    assert store.put(key, data).spooled


@pytest.mark.parametrize("fault", ["error", "reset", "half", "swallow"])
def test_two_faults_are_overcome_by_the_third_try(store, proxy, task_id, fault):
    """Each try is one PUT (and the HEAD that proves it): two are harmed, the third passes."""
    key, data = picture(task_id, 0)
    proxy.plan.extend([fault, "pass", fault, "pass"] if fault == "swallow" else [fault, fault])
    stored = store.put(key, data)
    assert not stored.spooled
    assert Store("images", store.driver).read(key) == data
    assert not store.spool.entries()


@pytest.mark.parametrize("fault", ["error", "reset", "half", "swallow"])
def test_a_lasting_fault_means_spool_and_nothing_is_lost(store, proxy, task_id, fault):
    sent = [picture(task_id, index) for index in range(4)]
    proxy.default = fault
    assert all(store.put(key, data).spooled for key, data in sent)
    assert [store.read(key) for key, _ in sent] == [data for _, data in sent]
    assert store.sync() == 0
    proxy.default = "pass"
    proxy.requests.clear()
    assert store.sync() == 4
    assert not store.spool.entries()
    assert [Store("images", store.driver).read(key) for key, _ in sent] == [data for _, data in sent]
    puts = [line.split()[1] for line, _ in proxy.requests if line.startswith("PUT")]
    assert [path.split("/", 2)[2] for path in puts] == [key for key, _ in sent]


def test_a_slow_store_is_not_a_failure(store, proxy, task_id):
    key, data = picture(task_id, 0)
    store.put(key, data)
    proxy.default = "slow"
    assert store.read(key) == data


@pytest.mark.asyncio
async def test_the_temporary_url_works_while_the_store_is_away(store, proxy, task_id):
    from asgiref.sync import sync_to_async

    key, data = picture(task_id, 0)
    proxy.default = "reset"
    await sync_to_async(store.put)(key, data)
    url = store.url(key, 60)
    assert url.startswith("/files/")
    assert (await AsyncClient().get(url)).content == data
    proxy.default = "pass"
    assert await sync_to_async(store.sync)() == 1
    assert store.url(key, 60).startswith("http://")
    assert (await AsyncClient().get(url)).content == data  # an old temporary URL still finds it


def test_many_writers_while_the_store_comes_and_goes(store, proxy, task_id):
    """Eight threads put 40 pictures through random faults; another synchronises all the while. Afterwards the store
    has each once.
    """
    sent = [picture(task_id, index, 5_000) for index in range(40)]
    proxy.plan.extend(["pass", "error", "pass", "reset", "swallow", "pass", "half", "pass"] * 20)
    todo = list(sent)
    done = threading.Event()

    def work() -> None:
        while True:
            try:
                key, data = todo.pop()
            except IndexError:
                return
            images().put(key, data)

    def synchronise() -> None:
        while not done.wait(0.05):
            images().sync()

    threads = [threading.Thread(target=work) for _ in range(8)]
    syncer = threading.Thread(target=synchronise)
    for thread in [*threads, syncer]:
        thread.start()
    for thread in threads:
        thread.join()
    proxy.plan.clear()
    done.set()
    syncer.join()
    store.sync()
    assert store.spool.entries() == []
    plain = Store("images", store.driver)
    assert sorted(found.key for found in plain.list("images/")) == sorted(key for key, _ in sent)
    assert all(plain.read(key) == data for key, data in sent)


def test_a_zip_survives_cut_connections(store, proxy, task_id):
    sent = [picture(task_id, index, 900_000) for index in range(3)]
    for key, data in sent:
        store.put(key, data)
    proxy.plan.extend(["pass", "cut", "pass", "cut", "cut"])
    entries = [ZipEntry(f"{index}.webp", key) for index, (key, _) in enumerate(sent)]
    archive = zipfile.ZipFile(io.BytesIO(b"".join(stream_zip(store, entries))))
    assert archive.testzip() is None
    assert archive.read("0.webp") == sent[0][1]
    assert archive.read("1.webp") == sent[1][1]
    assert "2.webp\tthe store did not answer" in archive.read(REPORT).decode()


def test_wrong_keys_to_the_store_are_an_outage(store, settings, task_id):
    options = {**settings.STORAGES["images"]["OPTIONS"], "secret_key": "wrong"}
    settings.STORAGES = {**settings.STORAGES, "images": {**settings.STORAGES["images"], "OPTIONS": options}}
    key, data = picture(task_id, 0)
    assert images().put(key, data).spooled
    with pytest.raises(StoreUnavailable):
        Store("images", images().driver).read(key)


def test_the_bucket_command_says_what_the_store_has(store, server, capsys):
    call_command("prepare_bucket", archive_class=ceph.COLD)
    said = capsys.readouterr().out
    assert "bucket: kept" in said
    assert "versions: set" in said
    assert f"lifecycle: {'set' if server.name == 'ceph' else 'unsupported'}" in said


def test_a_store_without_a_second_region_says_so(store, capsys):
    call_command("prepare_bucket", replica="arn:aws:s3:::other", role="arn:aws:iam::1:role/copies")
    assert "replication: unsupported" in capsys.readouterr().out


def test_what_the_command_set_is_there_and_may_be_set_again(of_ceph, store):
    client, bucket = store.driver.client, store.driver.bucket
    for _ in range(2):
        prepare_bucket(client, bucket, BucketPlan(keep_days=90, archive_class=ceph.COLD))
    rules = {rule["ID"]: rule for rule in client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]}
    assert rules["archive-class"]["Transitions"] == [{"Days": 1, "StorageClass": ceph.COLD}]
    assert rules["end-of-images"]["Expiration"] == {"Days": 97}
    assert rules["unfinished-uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert client.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"


def test_a_picture_is_not_public(store, task_id):
    key, data = picture(task_id, 0)
    store.put(key, data)
    assert httpx.get(store.url(key, 60).split("?")[0]).status_code in (400, 401, 403)


def test_the_rules_are_carried_out(of_ceph, store, task_id):
    """The archive gets its class, and what is past its days goes; a "day" lasts seconds here."""
    client, bucket = store.driver.client, store.driver.bucket
    (archived, data), (young, _) = picture(task_id, 0), picture(task_id, 1)
    store.put(archived, data)
    store.put(young, data)
    assert move_to_archive(store, archived)
    place = {"Bucket": bucket, "Key": keys.archive_key(archived)}
    prepare_bucket(client, bucket, BucketPlan(archive_class=ceph.COLD))
    wait_until(lambda: client.head_object(**place).get("StorageClass") == ceph.COLD)
    assert store.read(keys.archive_key(archived)) == data
    assert move_back(store, archived)
    assert store.read(archived) == data
    prepare_bucket(client, bucket, BucketPlan(keep_days=-6))  # a day in all
    wait_until(lambda: not store.exists(young))


def test_moving_sends_no_bytes_through_us(store, proxy, task_id):
    key, data = picture(task_id, 0)
    store.put(key, data)
    proxy.requests.clear()
    assert move_to_archive(store, key)
    assert [line.split()[0] for line, _ in proxy.requests] == ["HEAD", "PUT", "HEAD", "DELETE"]
    assert store.read(keys.archive_key(key)) == data


def test_what_lies_in_parts_is_moved_and_proved(store, task_id):
    key, data = picture(task_id, 0, MULTIPART_FROM)
    store.put(key, data)
    assert move_to_archive(store, key)
    assert store.read(keys.archive_key(key)) == data
    assert move_back(store, key)
    assert store.read(key) == data


@pytest.mark.parametrize("fault", ["error", "reset", "swallow"])
def test_a_copy_that_fails_or_is_not_there_deletes_nothing(store, proxy, task_id, fault):
    key, data = picture(task_id, 0)
    store.put(key, data)
    proxy.plan.extend(["pass", fault])  # HEAD, copy
    with pytest.raises(StoreUnavailable):
        move_to_archive(store, key)
    assert store.read(key) == data


def wait_until(true, patience: float = 40 * ceph.DAY_S) -> None:
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_versions_keep_what_was_deleted(store, task_id):
    client, bucket = store.driver.client, store.driver.bucket
    key, data = picture(task_id, 0)
    store.put(key, data)
    store.delete(key)
    with pytest.raises(ObjectNotFound):
        store.read(key)
    versions = client.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]
    body = client.get_object(Bucket=bucket, Key=key, VersionId=versions[0]["VersionId"])["Body"]
    assert body.read() == data


def test_no_access_is_said(store):
    client = store.driver.client
    with pytest.raises(ClientError):
        prepare_bucket(client, "x", BucketPlan())  # Swift refuses the name
