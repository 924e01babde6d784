import hashlib
import os
import time
from datetime import UTC, datetime
from uuid import UUID

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from storage import keys
from storage.archive import check_present, move_back, move_back_requested, move_to_archive
from storage.errors import Archived, ObjectNotFound
from storage.inventory import DayRows, compare_day
from storage.openings import Openings, unopened
from storage.store import images
from storage.variants import delete_task

DAY = 86400


@pytest.fixture
def redis():
    client = Redis.from_url(os.environ["REDIS_URL"], socket_timeout=5)
    client.delete("gx:opened", "gx:archive:asked", "gx:archive:restored")
    yield client
    client.close()


def original(task_id: UUID, index: int = 0) -> str:
    data = b"picture %d" % index
    key = keys.image_key(task_id, index, hashlib.sha256(data).hexdigest(), "image/webp")
    images().put(key, data)
    return key


def aged(days: int) -> str:
    """The key of an original whose task was made `days` ago."""
    task_id = UUID(int=(int((time.time() - days * DAY) * 1000) << 80) | (0x7 << 76) | (0x2 << 62))
    return keys.image_key(task_id, 0, "ab" * 32, "image/webp")


def test_an_original_moves_to_the_archive_and_back(task_id, redis):
    store, key = images(), original(task_id)
    check_present(store, key, redis)
    assert move_to_archive(store, key)
    assert not move_to_archive(store, key)
    assert [found.key for found in store.list("")] == [keys.archive_key(key)]
    for _ in range(2):
        with pytest.raises(Archived) as caught:
            check_present(store, key, redis)
        assert 50 < (caught.value.ready_at - datetime.now(UTC)).total_seconds() <= 60
    assert move_back_requested(store, redis) == [key]
    assert move_back_requested(store, redis) == []
    check_present(store, key, redis)
    assert store.read(key) == b"picture 0"


def test_a_crash_between_copy_and_delete_leaves_two_and_is_repeated(task_id, redis):
    store, key = images(), original(task_id)
    store.put(keys.archive_key(key), store.read(key))
    check_present(store, key, redis)
    assert move_to_archive(store, key)
    assert move_back(store, key)
    assert [found.key for found in store.list("")] == [key]


def test_a_deleted_original_is_not_found(task_id, redis):
    store, key = images(), original(task_id)
    move_to_archive(store, key)
    assert delete_task(store, task_id) == 1
    with pytest.raises(ObjectNotFound):
        check_present(store, key, redis)


def test_an_original_moved_back_during_the_check_is_found(task_id, redis, monkeypatch):
    store, key = images(), original(task_id)
    move_to_archive(store, key)
    exists = store.exists

    def look(asked: str) -> bool:
        found = exists(asked)
        move_back(store, key)
        return found

    monkeypatch.setattr(store, "exists", look)
    check_present(store, key, redis)
    assert store.read(key) == b"picture 0"


def test_without_redis_an_original_is_moved_back_at_once(task_id):
    store, key = images(), original(task_id)
    move_to_archive(store, key)
    check_present(store, key, Redis(port=1, retry=Retry(NoBackoff(), 0)))
    assert store.exists(key)


def test_openings_are_written_once_a_day_in_batches(redis):
    openings = Openings(redis, flush_seconds=1000)
    now = time.time()
    old, young = aged(30), aged(1)
    for _ in range(100):
        openings.note(old, now)
        openings.note(young, now)
        openings.note(keys.variant_key(old, "thumbs"), now)
    assert redis.zcard("gx:opened") == 0
    assert openings.flush() == 1
    assert openings.flush() == 0
    openings.note(old, now + DAY)
    assert openings.flush() == 1
    assert unopened(redis, [old, young, "never"], 90, now) == [young, "never"]
    assert unopened(redis, [old], 90, now + 95 * DAY) == [old]
    assert redis.zcard("gx:opened") == 0


def test_openings_are_kept_while_redis_is_unreachable(redis):
    openings = Openings(Redis(port=1, retry=Retry(NoBackoff(), 0)), flush_seconds=1000)
    now = time.time()
    openings.note(aged(30), now)
    assert openings.flush() == 0
    openings._redis = redis
    assert openings.flush() == 1


def test_differences_between_rows_and_objects(task_id, redis):
    store = images()
    kept, archived, lost = original(task_id, 0), original(task_id, 1), original(task_id, 2)
    replaced = original(task_id, 3)
    stranger = original(UUID(int=task_id.int + 1), 0)
    medium = keys.variant_key(kept, "medium")
    store.put(medium, b"m")
    sent = keys.input_key(task_id, "image", "cd" * 32, "image/png")
    store.put(sent, b"i")
    move_to_archive(store, archived)
    store.delete(lost)
    waiting = keys.image_key(task_id, 4, "ef" * 32, "image/webp")
    store.spool.add(waiting, b"w")
    rows = DayRows(frozenset([str(task_id)]), frozenset([kept, archived, lost, waiting]), frozenset())
    day = datetime.fromtimestamp((task_id.int >> 80) / 1000, UTC)
    found = {(finding.kind, finding.key) for finding in compare_day(store, day, rows)}
    assert found == {("missing", lost), ("replaced", replaced), ("orphan", stranger)}
