"""Amazon's classes that must be restored before they are read, and its replication, on a server that has both."""

import hashlib
import os
from datetime import UTC, datetime

import pytest
from django.core.management import call_command
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from storage import keys
from storage.archive import check_present, move_back, move_back_requested, move_to_archive, open_or_request
from storage.errors import Archived, NeedsRestore, StoreUnavailable
from storage.store import images
from storage.tests.behaviour import check_store
from storage.tests.s3 import moto_server

HOUR = 3600
HELD = {"progression": "manual", "times": 10**9}
DONE = {"progression": "immediate"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    try:
        with moto_server.running(tmp_path_factory.mktemp("moto")) as running:
            yield running
    except moto_server.NotInstalled as error:
        pytest.skip(str(error))


@pytest.fixture
def redis():
    client = Redis.from_url(os.environ["REDIS_URL"], socket_timeout=5)
    client.delete("gx:archive:asked", "gx:archive:restored")
    yield client
    client.close()


@pytest.fixture
def cold(store, server, task_id):
    """Puts a picture and archives it in a class, as the bucket's rule does."""

    def make(storage_class: str = "GLACIER", index: int = 0) -> tuple[str, bytes]:
        data = os.urandom(50_000)
        key = keys.image_key(task_id, index, hashlib.sha256(data).hexdigest(), "image/webp")
        store.put(key, data)
        assert move_to_archive(store, key)
        place = {"Bucket": store.driver.bucket, "Key": keys.archive_key(key)}
        store.driver.client.copy_object(**place, CopySource=place, StorageClass=storage_class)
        return key, data

    moto_server.set_restores(server, {"progression": "manual", "times": 1})
    return make


@pytest.fixture
def finish(server, redis):
    """The store ends its restores, and the time of the next look has come."""

    def end() -> None:
        moto_server.set_restores(server, DONE)
        for key in redis.zrange("gx:archive:asked", 0, -1):
            redis.zadd("gx:archive:asked", {key: 0})

    return end


def begin(store, server, key: str, redis: Redis) -> float:
    """The first request for `key`; seconds until the time it was told. The restore then stays under way."""
    with pytest.raises(Archived) as caught:
        check_present(store, key, redis)
    place = {"Bucket": store.driver.bucket, "Key": keys.archive_key(key)}
    assert store.driver.client.head_object(**place)["Restore"] == 'ongoing-request="true"'
    moto_server.set_restores(server, HELD)
    return (caught.value.ready_at - datetime.now(UTC)).total_seconds()


def restores(proxy) -> int:
    return sum(line.startswith("POST") and "?restore" in line for line, _ in proxy.requests)


def test_common_behaviour_of_stores(store, task_id):
    check_store(store, task_id)


def test_what_must_be_restored_is_not_taken_for_gone_or_for_an_outage(store, cold):
    key, _ = cold()
    with pytest.raises(NeedsRestore):
        store.read(keys.archive_key(key))
    with pytest.raises(NeedsRestore):
        move_back(store, key)


@pytest.mark.parametrize(
    ("storage_class", "tier", "hours"),
    [
        ("GLACIER", "Expedited", 1 / 12),
        ("GLACIER", "Standard", 5),
        ("GLACIER", "Bulk", 12),
        ("DEEP_ARCHIVE", "Expedited", 12),  # it has no such tier
        ("DEEP_ARCHIVE", "Standard", 12),
        ("DEEP_ARCHIVE", "Bulk", 48),
    ],
)
def test_the_time_told_is_that_of_class_and_tier(settings, server, store, cold, redis, storage_class, tier, hours):
    settings.ARCHIVE_RESTORE_TIER = tier
    key, _ = cold(storage_class)
    assert begin(images(), server, key, redis) == pytest.approx(hours * HOUR + 60, abs=10)


def test_an_original_moves_to_the_archive_and_back(server, store, proxy, cold, redis, finish):
    key, data = cold()
    begin(store, server, key, redis)
    assert move_back_requested(store, redis) == []  # under way
    assert restores(proxy) == 1
    finish()
    assert move_back_requested(store, redis) == [key]
    assert store.read(key) == data
    assert not store.exists(keys.archive_key(key))
    head = store.driver.client.head_object(Bucket=store.driver.bucket, Key=key)
    assert head.get("StorageClass", "STANDARD") == "STANDARD"
    assert not redis.exists("gx:archive:asked", "gx:archive:restored")


def test_asking_again_asks_the_store_once_and_is_told_the_same_time(server, store, proxy, cold, redis):
    key, _ = cold()
    first = begin(store, server, key, redis)
    redis.hset("gx:archive:restored", key, datetime.now(UTC).timestamp() + HOUR)  # four hours later
    with pytest.raises(Archived) as caught:
        open_or_request(store, key, redis)
    assert first > 4 * HOUR
    assert caught.value.retry_after == pytest.approx(HOUR + 60, abs=10)
    assert restores(proxy) == 1


def test_the_restore_goes_on_when_redis_forgets_it(server, store, proxy, cold, redis, finish):
    key, data = cold()
    begin(store, server, key, redis)
    redis.delete("gx:archive:asked", "gx:archive:restored")
    with pytest.raises(Archived):
        check_present(store, key, redis)
    assert restores(proxy) == 1
    finish()
    assert move_back_requested(store, redis) == [key]
    assert store.read(key) == data


def test_without_redis_the_first_request_after_the_restore_brings_it_back(server, store, cold):
    key, data = cold()
    away = Redis(port=1, retry=Retry(NoBackoff(), 0))
    assert begin(store, server, key, away) > 4 * HOUR
    moto_server.set_restores(server, DONE)
    assert open_or_request(store, key, away).read() == data


def test_one_that_waits_does_not_hold_up_the_next(server, store, cold, redis):
    (slow, _), (quick, data) = cold("DEEP_ARCHIVE"), cold("STANDARD_IA", 1)
    begin(store, server, slow, redis)
    with pytest.raises(Archived) as caught:
        check_present(store, quick, redis)
    assert caught.value.retry_after <= 60
    assert move_back_requested(store, redis, limit=1) == []
    assert move_back_requested(store, redis, limit=1) == [quick]
    assert store.read(quick) == data


def test_an_outage_while_asking_is_said_and_nothing_is_taken_as_asked(store, proxy, cold, redis):
    key, _ = cold()
    proxy.plan.extend(["pass", "pass", "pass", "error"])  # HEAD of the original, GET, HEAD, restore
    with pytest.raises(StoreUnavailable):
        check_present(store, key, redis)
    assert not redis.exists("gx:archive:asked")


def test_the_replication_that_was_asked_for_is_set(store, capsys):
    other, role = "arn:aws:s3:::other-region", "arn:aws:iam::123456789012:role/copies"
    store.driver.client.create_bucket(Bucket="other-region")
    call_command("prepare_bucket", replica=other, role=role, archive_class="GLACIER")
    assert "replication: set" in capsys.readouterr().out
    client, bucket = store.driver.client, store.driver.bucket
    found = client.get_bucket_replication(Bucket=bucket)["ReplicationConfiguration"]
    assert found["Role"] == role
    assert [(rule["Status"], rule["Destination"]["Bucket"]) for rule in found["Rules"]] == [("Enabled", other)]
    rules = {rule["ID"]: rule for rule in client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]}
    assert rules["archive-class"]["Transitions"] == [{"Days": 1, "StorageClass": "GLACIER"}]
