"""Images that nobody opened for long move below `archive/`, and come back when somebody asks.

`archive/` is a prefix of the same store, so that a bucket's lifecycle rule can give it a cheaper storage class
(`manage.py prepare_bucket --archive-class`). Only the original moves; its variants stay. Moving is copy, proof,
delete: a crash leaves one copy or two, never none, and two are as good as one.

    gx:archive:asked   sorted set: key -> when its return was asked for (POSIX seconds)
"""

import logging
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from redis import Redis, RedisError

from storage import keys
from storage.errors import Archived, NotFound, StorageError
from storage.store import Store

_ASKED = "gx:archive:asked"
RETURN_SECONDS = 60  # what a client is told; the housekeeping that brings images back runs more often
_log = logging.getLogger(__name__)


def move_to_archive(store: Store, key: str) -> bool:
    """True when the original is in the archive afterwards and was not before."""
    return _move(store, key, keys.archive_key(key))


def bring_back(store: Store, key: str) -> bool:
    """True when the original is at its own key afterwards and was not before."""
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
    if not keys.is_original(key) or not store.exists(keys.archive_key(key)):
        raise NotFound(key)
    now = datetime.now(UTC)
    try:
        redis.zadd(_ASKED, {key: now.timestamp()}, nx=True)
    except RedisError:
        bring_back(store, key)  # nobody would hear the request: better slow than never
        return
    raise Archived(key, now + timedelta(seconds=RETURN_SECONDS))


def bring_back_asked(store: Store, redis: Redis, limit: int = 1000) -> list[str]:
    """Housekeeping: bring back what was asked for, the oldest request first; the keys that are there now. One that
    can't be moved stays asked for and does not hold up the others.
    """
    back = []
    for member in redis.zrange(_ASKED, 0, limit - 1):
        key = member.decode() if isinstance(member, bytes) else member
        try:
            bring_back(store, key)
        except StorageError as error:
            _log.warning("%s stays in the archive for now: %s", key, error)
            continue
        redis.zrem(_ASKED, key)
        back.append(key)
    return back


def _move(store: Store, source: str, target: str) -> bool:
    try:
        data = store.read(source)
    except NotFound:
        return False
    store.put(target, data)
    store.delete(source)
    return True
