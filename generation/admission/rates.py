"""Requests per second, counted in Redis for all web processes together: exact under concurrency, one round trip for
all counters of a request (docs/decisions/0006). How many are allowed: the plan's `requests_per_second` for a key
(generation/api/base.py), ANONYMOUS_RPS for who has none.

While Redis is unreachable every request is admitted and a warning is logged: an outage of the counter is no reason to
refuse work.
"""

import functools
import ipaddress
import logging
import math
import time
from collections.abc import Sequence

import redis
from django.conf import settings
from django.http import HttpRequest
from redis.commands.core import Script

from imagegenx_site import redis_clients
from imagegenx_site.errors import Allowance, TooManyRequests
from imagegenx_site.http import forwarded

# KEYS: counters; ARGV[1]: length of the window in s. Answers the counts, with this request.
_COUNT = """
local counts = {}
for index, key in ipairs(KEYS) do
  counts[index] = redis.call('INCR', key)
  if counts[index] == 1 then redis.call('EXPIRE', key, ARGV[1]) end
end
return counts
"""
_PAUSE_S = 1.0  # no calls to Redis for this long after a failed one: in an outage requests do not wait for it

_log = logging.getLogger(__name__)
_paused_until = 0.0


def hit(counters: Sequence[tuple[str, str]], per_second: int) -> list[Allowance]:
    """Count one request under each (name, whose). Returns what is left of each; empty while Redis is unreachable.

    Raises TooManyRequests when any of them is over its limit.
    """
    global _paused_until
    window = settings.RATE_WINDOW_S
    quota = per_second * window
    if time.monotonic() < _paused_until:
        return []
    try:
        counts = _script()(keys=[f"rl:{name}:{whose}" for name, whose in counters], args=[window])
    except redis.RedisError as error:
        _paused_until = time.monotonic() + _PAUSE_S
        _log.warning("limits are not counted, Redis is unreachable: %s", error)
        return []
    allowances = [
        Allowance(name, quota, window, max(0, quota - count), window)
        for (name, _), count in zip(counters, counts, strict=True)
    ]
    for (name, _), count in zip(counters, counts, strict=True):
        if count > quota:
            scope = "address" if name == "ip" else "key"
            message = f"More than {per_second} requests a second from one {scope}. Wait, then send again."
            raise TooManyRequests(message, retry_after=window, allowances=allowances)
    return allowances


def headers(allowances: Sequence[Allowance]) -> dict[str, str]:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers)."""
    if not allowances:
        return {}
    windows = {allowance: f";w={allowance.window}" if allowance.window else "" for allowance in allowances}
    resets = {allowance: f";t={allowance.reset}" if allowance.window else "" for allowance in allowances}
    return {
        "RateLimit-Policy": ", ".join(f'"{item.name}";q={item.quota}{windows[item]}' for item in allowances),
        "RateLimit": ", ".join(f'"{item.name}";r={item.left}{resets[item]}' for item in allowances),
    }


def client_address(request: HttpRequest) -> str:
    """The sender's address (imagegenx_site/http/forwarded.py says which that is behind proxies), as it is counted."""
    return counted_address(forwarded.sender(request))


def counted_address(text: str) -> str:
    """IPv6 addresses are cut to their /64, which usually belongs to one customer."""
    address = forwarded.address_of(text)
    if address is None:
        return "unknown"
    if address.version == 6:
        return str(ipaddress.ip_network(f"{address}/64", strict=False).network_address)
    return str(address)


def seconds_until_midnight() -> int:
    """Until the next day (UTC)."""
    return math.ceil(86400 - time.time() % 86400)


@functools.cache
def _script() -> Script:
    return redis_clients.load_script(redis_clients.text_client(), _COUNT)
