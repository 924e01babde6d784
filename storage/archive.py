"""Images that nobody opened for long move below `archive/`, and come back when somebody asks.

`archive/` is a prefix of the same store, so that a bucket's lifecycle rule can give it a cheaper storage class
(`manage.py prepare_bucket --archive-class`). Only the original moves; its variants stay. Moving is copy, proof,
delete: a crash leaves one copy or two, never none, and two are as good as one.

What lies in a class that must be restored (GLACIER, DEEP_ARCHIVE) takes hours: 1 the first request asks the store,
2 housekeeping looks now and then, 3 when the store has it readable, it moves. The store knows what it was asked, so a
restore is asked for once whatever is lost here, and again when a restored copy ended before it was moved.
"""

import logging
import time
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from redis import Redis, RedisError

from storage import keys
from storage.errors import Archived, NeedsRestore, NotFound, StorageError
from storage.store import Store

_ASKED = "gx:archive:asked"
_RESTORED = "gx:archive:restored"
RETURN_SECONDS = 60  # what a client is told; the housekeeping that brings images back runs more often
_LOOKS = 20  # at an object during the usual time of its restore
_log = logging.getLogger(__name__)


def move_to_archive(store: Store, key: str) -> bool:
    """True when the original is in the archive afterwards and was not before."""
    return _move(store, key, keys.archive_key(key))


def bring_back(store: Store, key: str) -> bool:
    """True when the original is at its own key afterwards and was not before. Raises NeedsRestore."""
    return _move(store, keys.archive_key(key), key)


def open_or_ask(store: Store, key: str, redis: Redis) -> BinaryIO:
    """The object opened. Raises Archived, after asking for its return, or NotFound."""
    try:
        return store.open(key)
    except NotFound:
        check_present(store, key, redis)
        return store.open(key)


def check_present(store: Store, key: str, redis: Redis) -> None:
    """Returns when the object can be opened. Raises Archived, after asking for its return, or NotFound."""
    if store.exists(key):
        return
    if not keys.is_original(key):
        raise NotFound(key)
    try:
        wait = store.restore(keys.archive_key(key))
    except NotFound:
        if store.exists(key):  # it came back between the two looks
            return
        raise NotFound(key) from None
    ready = time.time() + (wait.total_seconds() if wait else 0)
    try:
        redis.zadd(_ASKED, {key: time.time()}, nx=True)
        if wait:
            ready = _ready_at(key, wait, redis)
    except RedisError:
        if not wait:
            bring_back(store, key)  # nobody would hear the request: better slow than never
            return
    raise Archived(key, datetime.fromtimestamp(ready, UTC) + timedelta(seconds=RETURN_SECONDS))


def bring_back_asked(store: Store, redis: Redis, limit: int = 1000) -> list[str]:
    """Housekeeping: bring back what was asked for, the oldest request first; the keys that are there now. One that
    can't be moved stays asked for and does not hold up the others.
    """
    back = []
    for member in redis.zrangebyscore(_ASKED, "-inf", time.time(), 0, limit):
        key = member.decode() if isinstance(member, bytes) else member
        try:
            bring_back(store, key)
        except NeedsRestore:
            _look_later(store, key, redis)
            continue
        except StorageError as error:
            _log.warning("%s stays in the archive for now: %s", key, error)
            continue
        redis.zrem(_ASKED, key)
        redis.hdel(_RESTORED, key)
        back.append(key)
    return back


def _look_later(store: Store, key: str, redis: Redis) -> None:
    """The next look at what is being restored; asks the store when nobody has."""
    try:
        wait = store.restore(keys.archive_key(key))
    except StorageError as error:
        _log.warning("%s is not being restored: %s", key, error)
        return
    if wait:
        _ready_at(key, wait, redis)
        redis.zadd(_ASKED, {key: time.time() + wait.total_seconds() / _LOOKS}, xx=True)


def _ready_at(key: str, wait: timedelta, redis: Redis) -> float:
    """When the restore of `key`, which takes `wait`, should end: counted from the first asking, and anew when that time
    has passed in vain.
    """
    now = time.time()
    known = float(redis.hget(_RESTORED, key) or 0)
    if known > now:
        return known
    redis.hset(_RESTORED, key, now + wait.total_seconds())
    return now + wait.total_seconds()


def _move(store: Store, source: str, target: str) -> bool:
    try:
        store.copy(source, target)
    except NotFound:
        return False
    store.delete(source)
    return True
