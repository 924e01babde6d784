"""Images that nobody opened for long move below `archive/`, and come back when somebody asks.

`archive/` is a prefix of the same store, so that a bucket's lifecycle rule can give it a cheaper storage class. Only
the original moves; its variants stay. Moving is copy, proof, delete: a crash leaves one copy or two, never none, and
two are as good as one.
"""

from datetime import UTC, datetime, timedelta

from redis import Redis, RedisError

from storage import keys
from storage.errors import Archived, NotFound
from storage.store import Store

_ASKED = "gx:archive:asked"  # sorted set: key -> when its return was asked for (POSIX seconds)
RETURN_SECONDS = 60  # what a client is told; the housekeeping that brings images back runs more often


def move_to_archive(store: Store, key: str) -> bool:
    """True when the original is in the archive afterwards and was not before."""
    return _move(store, key, keys.archive_key(key))


def bring_back(store: Store, key: str) -> bool:
    """True when the original is at its own key afterwards and was not before."""
    return _move(store, keys.archive_key(key), key)


def check_present(store: Store, key: str, redis: Redis) -> None:
    """Returns when the original can be opened. Raises Archived, after asking for its return, or NotFound."""
    if store.exists(key):
        return
    if not store.exists(keys.archive_key(key)):
        raise NotFound(key)
    now = datetime.now(UTC)
    try:
        redis.zadd(_ASKED, {key: now.timestamp()}, nx=True)
    except RedisError:
        bring_back(store, key)  # nobody would hear the request: better slow than never
        return
    raise Archived(key, now + timedelta(seconds=RETURN_SECONDS))


def bring_back_asked(store: Store, redis: Redis, limit: int = 1000) -> int:
    """Housekeeping: bring back what was asked for, the oldest request first; how many came."""
    done = 0
    for member in redis.zrange(_ASKED, 0, limit - 1):
        key = member.decode() if isinstance(member, bytes) else member
        done += bring_back(store, key)
        redis.zrem(_ASKED, key)
    return done


def _move(store: Store, source: str, target: str) -> bool:
    try:
        data = store.read(source)
    except NotFound:
        return False
    store.put(target, data)
    store.delete(source)
    return True
