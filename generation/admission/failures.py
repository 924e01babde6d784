"""Failed attempts to come in, counted in Redis for all processes together: by account and address, by account, and by
address. Each counter allows some failures, then makes pauses that double; after 15 minutes without one it is forgotten.

    door        account            account+address    account            address
    PASSWORD    user name          5, up to 15 min    20, up to 30 s     30, up to 5 min
    CLIENT      OAuth client id    5, up to 15 min    20, up to 30 s     30, up to 5 min
    CODE        user name          5, up to 15 min    10, up to 15 min   30, up to 5 min
    KEY         key id             30, up to 1 min    -                  100, up to 1 min

CODE counts the codes of second factors: only who knows the password gets so far, and a code is short, so all addresses
together have few tries.

Nobody can lock another out for long: only who sits at the same address can make the long pause, strangers elsewhere
make the account's short one, and that does not hold where the account has come in before (30 days), nor does the
address's. `manage.py unlock NAME` forgets all counters of an account.

An attempt counts as failed from its start: `begin` before the secret is compared, so that a hundred at once are not a
hundred guesses, and no password is hashed during a pause; `succeeded` takes it back. Keys are too long to be
guessed, and cheap to compare: their failures are counted afterwards, so a valid key is never refused for others'.
While Redis is unreachable nothing is counted and a warning is logged; hashing stays bounded (`hashing`).
"""

import functools
import hashlib
import logging
import math
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis
from redis.commands.core import Script

from imagegenx_site import redis_clients
from imagegenx_site.errors import TooManyRequests

FORGOTTEN_S: Final = 900
KNOWN_S: Final = 30 * 86400  # s that an address counts as one from which the account came in
_SCRIPT: Final = Path(__file__).with_name("failures.lua")
_HASHES_AT_ONCE: Final = 2  # of passwords, in one process: a hash takes a core for a second
_HASH_PATIENCE_S: Final = 2.0
_slots = threading.BoundedSemaphore(_HASHES_AT_ONCE)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Counter:
    """`free` failures, the last of them with a pause of `first_s`, then twice that ... up to `longest_s`. `lifted`: not
    where the account is known.
    """

    free: int
    longest_s: int
    lifted: bool = False
    first_s: int = 1


@dataclass(frozen=True)
class Door:
    """A way in, and its counters. Doors of one name share them."""

    name: str
    pair: Counter
    account: Counter | None
    address: Counter


PASSWORD: Final = Door("password", Counter(5, 900), Counter(20, 30, lifted=True), Counter(30, 300, lifted=True))
CLIENT: Final = Door("client", Counter(5, 900), Counter(20, 30, lifted=True), Counter(30, 300, lifted=True))
CODE: Final = Door("code", Counter(5, 900), Counter(10, 900), Counter(30, 300, lifted=True))
KEY: Final = Door("key", Counter(30, 60), None, Counter(100, 60))


def begin(door: Door, account: str, address: str) -> None:
    """Count an attempt as failed. Raises TooManyRequests, with the seconds to wait, while it may not be made."""
    wait_ms = _call("begin", door, account, address)
    if wait_ms:
        seconds = math.ceil(wait_ms / 1000)
        raise TooManyRequests(f"Too many failed attempts. Try again in {seconds} s.", retry_after=seconds)


def succeeded(door: Door, account: str, address: str) -> None:
    """The attempt was right: it and the failures of this account at this address are forgotten."""
    _call("succeed", door, account, address)


def refund(door: Door, account: str, address: str) -> None:
    """The attempt was no guess."""
    _call("refund", door, account, address)


def unlock(account: str) -> int:
    """Forget all failures of an account, at every door; how many counters there were."""
    client, digest = redis_clients.text_client(), _digest(account)
    names = [f"rl:fail:{door.name}:{digest}:*" for door in (PASSWORD, CLIENT, CODE, KEY)]
    found = [key for name in names for key in client.scan_iter(name)]
    return int(client.delete(*found)) if found else 0


@contextmanager
def hashing() -> Iterator[None]:
    """Room to hash a password. Raises TooManyRequests when _HASHES_AT_ONCE are under way and stay so."""
    if not _slots.acquire(timeout=_HASH_PATIENCE_S):
        raise TooManyRequests("Too many logins at once. Try again in a moment.", retry_after=2)
    try:
        yield
    finally:
        _slots.release()


def _call(what: str, door: Door, account: str, address: str) -> int:
    whose = _digest(account)
    counters = {
        f"rl:fail:{door.name}:{whose}:{address}": door.pair,
        f"rl:fail:{door.name}:{whose}:": door.account,
        f"rl:fail:{door.name}::{address}": door.address,
    }
    counted = {key: counter for key, counter in counters.items() if counter}
    numbers: list[int] = []
    for counter in counted.values():
        numbers += [counter.free, counter.first_s * 1000, counter.longest_s * 1000, int(counter.lifted)]
    keys = [*counted, f"rl:known:{door.name}:{whose}:{address}"]
    try:
        return int(_script()(keys=keys, args=[what, FORGOTTEN_S * 1000, KNOWN_S, *numbers]))
    except redis.RedisError as error:
        _log.warning("failed attempts are not counted, Redis is unreachable: %s", error)
        return 0


def _digest(account: str) -> str:
    """Names are as Django compares them, of any length, and no secret typed as a name stays in Redis."""
    return hashlib.sha256(unicodedata.normalize("NFKC", account).casefold().encode("utf-8", "replace")).hexdigest()[:32]


@functools.cache
def _script() -> Script:
    return redis_clients.load_script(redis_clients.text_client(), _SCRIPT)
