"""Moves images that were not opened for long below `archive/`, and back when they are requested.

`archive/` is a prefix of the same store, so that a bucket's lifecycle rule can give it a cheaper storage class
(`manage.py prepare_bucket --archive-class`). Only the original moves; its variants stay. A move is copy, verify,
delete: a crash leaves one copy or two, never none, and two do no harm.

Objects in a class that must be restored (GLACIER, DEEP_ARCHIVE) take hours: 1 the first request starts the restore,
2 housekeeping polls it, 3 when the object is readable, it is moved back. The store knows of a running restore, so it is
requested once even if Redis is lost, and again if the restored copy expired before it was moved.
"""

import logging
import time
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from redis import Redis, RedisError

from storage import keys
from storage.errors import Archived, NeedsRestore, ObjectNotFound, StorageError
from storage.store import Store

_REQUESTED = "gx:archive:asked"
_RESTORED = "gx:archive:restored"
RETURN_SECONDS = 60  # Retry-After of clients; housekeeping restores images more often
_POLLS = 20  # of an object during the usual time of its restore
_log = logging.getLogger(__name__)


def move_to_archive(store: Store, key: str) -> bool:
    """Whether the original was moved into the archive; False if it is not at its own key."""
    return _move(store, key, keys.archive_key(key))


def move_back(store: Store, key: str) -> bool:
    """Whether the original was moved back; False if it is not in the archive. Raises NeedsRestore."""
    return _move(store, keys.archive_key(key), key)


def open_or_request(store: Store, key: str, redis: Redis) -> BinaryIO:
    """Open the object. Raises ObjectNotFound, or Archived after requesting its return."""
    try:
        return store.open(key)
    except ObjectNotFound:
        check_present(store, key, redis)
        return store.open(key)


def check_present(store: Store, key: str, redis: Redis) -> None:
    """Return if the object can be opened. Raises ObjectNotFound, or Archived after requesting its return."""
    if store.exists(key):
        return
    if not keys.is_original(key):
        raise ObjectNotFound(key)
    try:
        wait = store.restore(keys.archive_key(key))
    except ObjectNotFound:
        if store.exists(key):  # it was moved back between the two calls
            return
        raise ObjectNotFound(key) from None
    ready = time.time() + (wait.total_seconds() if wait else 0)
    try:
        redis.zadd(_REQUESTED, {key: time.time()}, nx=True)
        if wait:
            ready = _ready_at(key, wait, redis)
    except RedisError:
        if not wait:
            move_back(store, key)  # the request cannot be recorded: move it now
            return
    raise Archived(key, datetime.fromtimestamp(ready, UTC) + timedelta(seconds=RETURN_SECONDS))


def move_back_requested(store: Store, redis: Redis, limit: int = 1000) -> list[str]:
    """Housekeeping: move requested originals back, the oldest request first. Returns the keys that were moved.

    One that can't be moved stays requested and does not block the others.
    """
    moved = []
    for member in redis.zrangebyscore(_REQUESTED, "-inf", time.time(), 0, limit):
        key = member.decode() if isinstance(member, bytes) else member
        try:
            move_back(store, key)
        except NeedsRestore:
            _poll_later(store, key, redis)
            continue
        except StorageError as error:
            _log.warning("%s could not be moved back yet: %s", key, error)
            continue
        redis.zrem(_REQUESTED, key)
        redis.hdel(_RESTORED, key)
        moved.append(key)
    return moved


def _poll_later(store: Store, key: str, redis: Redis) -> None:
    """Schedule the next poll of a restore, and start the restore if there is none."""
    try:
        wait = store.restore(keys.archive_key(key))
    except StorageError as error:
        _log.warning("%s is not being restored: %s", key, error)
        return
    if wait:
        _ready_at(key, wait, redis)
        redis.zadd(_REQUESTED, {key: time.time() + wait.total_seconds() / _POLLS}, xx=True)


def _ready_at(key: str, wait: timedelta, redis: Redis) -> float:
    """Expected end of the restore of `key`, which takes `wait`: counted from the first request, or from now when that
    time has passed.
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
    except ObjectNotFound:
        return False
    store.delete(source)
    return True
