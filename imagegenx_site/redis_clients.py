"""The Redis clients of a process: who talks to Redis takes one of these.

All are bounded in time. None repeats a call by itself but for a connection that a restart cut.
"""

from functools import cache
from typing import Final

import redis.asyncio
from django.conf import settings
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

CACHE_TIMEOUT_S: Final = 1.0  # a cache that is slower than this is no help


@cache
def text_client() -> "Redis[str]":
    """For short commands, with text answers: limits, events, results, measurements."""
    timeout = settings.REDIS_TIMEOUT_S
    return Redis.from_url(
        settings.REDIS_URL,
        decode_responses=True,
        socket_timeout=timeout,
        socket_connect_timeout=2,
        retry=Retry(NoBackoff(), 1),  # redis-py's own retries take seconds
    )


@cache
def bytes_client() -> Redis:
    """For submitting, with answers in bytes; never repeats a call."""
    timeout = settings.REDIS_TIMEOUT_S
    return Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=30,
    )


@cache
def cache_client() -> Redis:
    """For caches, with answers in bytes; fails fast."""
    return Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=CACHE_TIMEOUT_S,
        socket_connect_timeout=CACHE_TIMEOUT_S,
        retry=Retry(NoBackoff(), 1),
    )


def connect(url: str, timeout: float) -> Redis:
    """A client of the caller's own, with text answers: every call gives up after `timeout` seconds and is never
    repeated, because a claim whose first reply was lost would claim twice.
    """
    return Redis.from_url(
        url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0), decode_responses=True
    )


def stream_reader() -> "redis.asyncio.Redis[str]":
    """For one reader of a stream in an event loop: it waits for as long as its command says."""
    return redis.asyncio.Redis.from_url(settings.REDIS_URL, decode_responses=True, socket_timeout=None)
