import hashlib
import io
import os
import threading
import time
from uuid import UUID

import pytest
from PIL import Image
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from imagegenx_site.single_flight import coalesce
from postprocessing.thumbnails import small_webp
from storage import keys
from storage.errors import BadKey, ObjectNotFound
from storage.store import images
from storage.variants import UnreadableOriginal, delete_task, ensure_variant, thumbnail


@pytest.fixture
def redis():
    client = Redis.from_url(os.environ["REDIS_URL"], socket_timeout=5)
    yield client
    client.close()


def file(form: str = "PNG", size: tuple[int, int] = (1200, 800), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert(mode).save(buffer, form)
    return buffer.getvalue()


@pytest.fixture
def original(task_id):
    data = file()
    key = keys.image_key(task_id, 0, hashlib.sha256(data).hexdigest(), "image/png")
    images().put(key, data)
    return key


def test_medium_is_made_once_under_concurrency(original, redis):
    made: list[int] = []

    def counted(data: bytes, side: int) -> bytes:
        made.append(side)
        time.sleep(0.1)  # long enough that all threads are there
        return small_webp(data, side)

    answers: list[str] = []

    def ask() -> None:
        answers.append(ensure_variant(images(), original, "medium", redis, counted))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [512]
    assert answers == [keys.variant_key(original, "medium")] * 12
    with Image.open(images().open(answers[0])) as picture:
        assert (picture.format, picture.size) == ("WEBP", (512, 341))


def test_without_redis_the_variant_is_made(original):
    nobody = Redis(port=1, retry=Retry(NoBackoff(), 0))
    assert images().exists(ensure_variant(images(), original, "medium", nobody, small_webp))


def test_a_missing_original_and_a_wrong_variant(original, redis):
    images().delete(original)
    with pytest.raises(ObjectNotFound):
        ensure_variant(images(), original, "medium", redis, small_webp)
    with pytest.raises(BadKey):
        ensure_variant(images(), original, "large", redis, small_webp)


def test_an_original_that_is_no_picture_is_refused(task_id, redis):
    key = keys.image_key(task_id, 0, "ab" * 32, "image/png")
    images().put(key, b"no picture")
    with pytest.raises(UnreadableOriginal):
        ensure_variant(images(), key, "medium", redis, small_webp)


def test_deleting_a_task_deletes_its_objects_and_no_others(original, task_id, redis):
    """The medium variant, a thumbnail in the cache, an enlargement's first version, an input, one in the spool."""
    store, other = images(), keys.image_key(UUID(int=task_id.int + 1), 0, "ab" * 32, "image/webp")
    ensure_variant(store, original, "medium", redis, small_webp)
    small = keys.variant_key(original, "thumbs")
    replaced = keys.image_key(task_id, 0, "cd" * 32, "image/webp")
    for key in (small, replaced, keys.input_key(task_id, "mask", "ef" * 32, "image/png"), other):
        store.put(key, b"x")
    assert thumbnail(store, small) == b"x"
    store.spool.add(keys.image_key(task_id, 1, "ab" * 32, "image/webp"), b"x")
    assert delete_task(store, task_id) == 6
    assert [found.key for found in store.list("")] == [other]
    with pytest.raises(ObjectNotFound):
        thumbnail(store, small)


def test_the_lock_of_a_dead_process_expires(redis):
    redis.set("gx:once:dead", "somebody", px=300)
    started = time.monotonic()
    assert coalesce(redis, "dead", lambda: None, lambda: "made", 5) == "made"
    assert 0.2 < time.monotonic() - started < 2
    assert redis.get("gx:once:dead") is None


def test_after_a_failure_the_next_process_gets_the_lock(redis):
    def fail() -> str:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        coalesce(redis, "failing", lambda: None, fail, 5)
    assert coalesce(redis, "failing", lambda: None, lambda: "made", 5) == "made"
