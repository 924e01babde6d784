import os
import random
import threading
import time

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from imagegenx_site.cache import Cache, CacheConfig


@pytest.fixture
def redis():
    client = Redis.from_url(os.environ["REDIS_URL"], socket_timeout=5)
    for key in client.scan_iter("gx:cache:test*"):
        client.delete(key)
    yield client
    client.close()


def test_a_value_is_loaded_once_and_kept(redis):
    cache = Cache(redis, CacheConfig("test", 60))
    loads: list[int] = []

    def load() -> bytes:
        loads.append(1)
        return b"value"

    for _ in range(3):
        assert cache.get("a", load) == b"value"
    assert len(loads) == 1
    assert cache.counts() == {"hits": 2, "misses": 1, "errors": 0}
    cache.invalidate("a")
    assert cache.get("a", lambda: b"new") == b"new"


def test_nothing_is_remembered_too_and_empty_is_a_value(redis):
    cache = Cache(redis, CacheConfig("test", 60))
    loads = []
    for _ in range(3):
        assert cache.get("gone", lambda: loads.append(1)) is None
        assert cache.get("empty", lambda: b"") == b""
    assert len(loads) == 1
    assert 53_000 <= redis.pttl("gx:cache:test:v:gone") <= 66_000


def test_lifetimes_differ(redis):
    cache = Cache(redis, CacheConfig("test", 100))
    for number in range(30):
        cache.get(str(number), lambda: b"x")
    lifetimes = [redis.pttl(f"gx:cache:test:v:{number}") for number in range(30)]
    assert min(lifetimes) >= 80_000
    assert max(lifetimes) <= 110_000
    assert max(lifetimes) - min(lifetimes) > 5_000


def test_a_hot_key_has_one_loader(redis):
    """Twenty threads ask for one key that takes 100 ms to load."""
    loads: list[int] = []
    answers: list[bytes | None] = []

    def load() -> bytes:
        loads.append(1)
        time.sleep(0.1)
        return b"hot"

    def ask() -> None:
        answers.append(Cache(redis, CacheConfig("test", 60)).get("hot", load))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [1]
    assert answers == [b"hot"] * 20


def test_bytes_are_bounded(redis):
    cache = Cache(redis, CacheConfig("test-small", 60, max_bytes=10_000))
    for number in range(50):
        assert cache.get(str(number), lambda: bytes(999)) == bytes(999)
    kept = list(redis.scan_iter("gx:cache:test-small:v:*"))
    assert len(kept) == 10
    assert int(redis.hget("gx:cache:test-small:size", "")) == 10_000
    assert redis.zcard("gx:cache:test-small:due") == 10
    assert cache.get("large", lambda: bytes(20_000)) == bytes(20_000)
    assert not redis.exists("gx:cache:test-small:v:large")


def test_expired_entries_give_their_room_back(redis):
    cache = Cache(redis, CacheConfig("test-short", 0.05, max_bytes=5_000))
    for number in range(5):
        cache.get(str(number), lambda: bytes(900))
    time.sleep(0.1)
    cache.get("next", lambda: bytes(900))
    assert int(redis.hget("gx:cache:test-short:size", "")) == 901


def test_without_redis_everything_is_loaded():
    nobody = Redis(port=1, retry=Retry(NoBackoff(), 0))
    cache = Cache(nobody, CacheConfig("test", 60, max_bytes=1000))
    assert [cache.get("a", lambda: b"x") for _ in range(2)] == [b"x", b"x"]
    assert cache.counts()["errors"] > 0
    cache.invalidate("a")


def test_flushed_in_the_middle_nothing_breaks(redis):
    cache = Cache(redis, CacheConfig("test-flush", 60, max_bytes=3_000))
    for number in range(200):
        assert cache.get(str(number % 7), (b"%d" % (number % 7)).__bytes__) == b"%d" % (number % 7)
        if number % 50 == 49:
            for key in redis.scan_iter("gx:cache:test-flush:*"):
                redis.delete(key)


def test_hit_rate_on_a_zipf_load(redis):
    """3,000 requests for 300 tasks, popularity by Zipf's law with exponent 1.3: one miss for each task asked for,
    then only hits.
    """
    weights = [1 / rank**1.3 for rank in range(1, 301)]
    asked = random.Random(0).choices(range(300), weights, k=3_000)
    cache = Cache(redis, CacheConfig("test-zipf", 600))
    for key in asked:
        cache.get(str(key), lambda: b"status")
    counts = cache.counts()
    assert counts["misses"] == len(set(asked))
    for key in asked[:1000]:
        cache.get(str(key), lambda: b"status")
    assert cache.counts()["hits"] - counts["hits"] == 1000


def test_a_warm_cache_hits_99_of_100_though_tasks_move(redis):
    """As above, with a move of a task that somebody polls after every 200 requests; each poll is told the last move."""
    weights = [1 / rank**1.3 for rank in range(1, 301)]
    chance, moves = random.Random(0), [0] * 300
    cache = Cache(redis, CacheConfig("test-zipf-moves", 600))
    for key in range(300):
        cache.get(str(key), lambda: b"0")
    before = cache.counts()
    for poll, key in enumerate(chance.choices(range(300), weights, k=3_000)):
        if poll % 200 == 199:
            cache.block(str(key))
            moves[key] += 1
            cache.invalidate(str(key))
        assert cache.get(str(key), lambda key=key: b"%d" % moves[key]) == b"%d" % moves[key]
    hits, misses = (cache.counts()[name] - before[name] for name in ("hits", "misses"))
    assert (hits + misses, misses) == (3_000, 15)
    assert hits / (hits + misses) >= 0.99


def test_a_change_while_a_loader_reads_is_not_undone_by_it(redis):
    """The loader reads the old value; before it stores, the truth changes."""
    cache = Cache(redis, CacheConfig("test", 60))

    def load_slowly() -> bytes:
        cache.invalidate("a")  # another process committed and said so
        return b"old"

    assert cache.get("a", load_slowly) == b"old"
    assert cache.get("a", lambda: b"new") == b"new"


def test_what_is_held_is_read_from_the_truth_and_never_stored(redis):
    cache, other = Cache(redis, CacheConfig("test", 60)), Cache(redis, CacheConfig("test", 60))
    cache.get("a", lambda: b"old")
    other.block("a")
    assert [cache.get("a", lambda value=value: value) for value in (b"1", b"2")] == [b"1", b"2"]
    assert 0 < redis.pttl("gx:cache:test:v:a") <= 5_000
    other.invalidate("a")
    assert [cache.get("a", lambda value=value: value) for value in (b"3", b"4")] == [b"3", b"3"]


def test_what_could_not_be_forgotten_is_forgotten_before_the_next_look(redis, monkeypatch):
    cache = Cache(redis, CacheConfig("test", 60))
    cache.get("a", lambda: b"old")
    cache._redis = Redis(port=1, retry=Retry(NoBackoff(), 0))
    cache.invalidate("a")
    cache._redis = redis
    monkeypatch.setattr(cache, "_away_until", 0.0)
    assert cache.get("a", lambda: b"new") == b"new"


def test_a_loader_that_fails_leaves_the_next_one_its_turn(redis):
    cache = Cache(redis, CacheConfig("test", 60))
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: 1 // 0)
    assert cache.get("a", lambda: b"x") == b"x"
