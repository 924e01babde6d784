"""Whose turn it is to be sent to: one user and one host have a few attempts at once in all webhook workers together, so
that endpoints which never answer hold only their own customer's deliveries.

A slot is an entry of a Redis set with an end: one that a killed worker held is free after that. While Redis is
unreachable nothing is counted; then no messages come either.
"""

import functools
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

import redis
from django.conf import settings
from redis.commands.core import Script

from imagegenx_site import redis_clients

_MARGIN_S: Final = 10  # beyond WEBHOOK_TIMEOUT_S, until a slot that was not given back is free
# KEYS: sets of slots; ARGV: the new slot's name, its life in ms, the most slots of each set. Answers 1 when it was
# added to all sets, 0 when one of them is full.
_TAKE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for index, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  if redis.call('ZCARD', key) >= tonumber(ARGV[2 + index]) then return 0 end
end
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + ARGV[2], ARGV[1])
  redis.call('PEXPIRE', key, ARGV[2])
end
return 1
"""
_log = logging.getLogger(__name__)


class NoTurn(Exception):
    """As many attempts of this user or at this host as may be are under way."""


@contextmanager
def hold(user_id: int, url: str) -> Iterator[None]:
    """A slot of the user and one of the URL's host for as long as the block lasts. Raises NoTurn."""
    host = (urlsplit(url).hostname or "").lower().rstrip(".")
    keys = [f"gx:webhook:user:{user_id}", f"gx:webhook:host:{host}"]
    slot = uuid.uuid4().hex
    if not _taken(keys, slot):
        raise NoTurn
    try:
        yield
    finally:
        _give_back(keys, slot)


def _taken(keys: list[str], slot: str) -> bool:
    life = 1000 * (settings.WEBHOOK_TIMEOUT_S + _MARGIN_S)
    most = (settings.WEBHOOKS_PER_USER, settings.WEBHOOKS_PER_HOST)
    try:
        return bool(_script()(keys=keys, args=[slot, int(life), *most]))
    except redis.RedisError as error:
        _log.warning("attempts at webhooks are not counted, Redis is unreachable: %s", error)
        return True


def _give_back(keys: list[str], slot: str) -> None:
    try:
        with redis_clients.text_client().pipeline() as pipe:
            for key in keys:
                pipe.zrem(key, slot)
            pipe.execute()
    except redis.RedisError as error:
        _log.warning("a webhook's slot ends by itself, Redis is unreachable: %s", error)


@functools.cache
def _script() -> Script:
    return redis_clients.load_script(redis_clients.text_client(), _TAKE)
