"""The Redis scripts of the buffer and how they are loaded. The keys: imagegenx_site/redis_clients.py.

Every script is `layout.lua` (names of keys, and the few operations on them that several scripts need) followed by its
own file, so each rule about the buffer is written once. Redis runs a script as one atomic step; the only clock in
them is the server's.
"""

from pathlib import Path

from redis import Redis
from redis.commands.core import Script

from imagegenx_site import redis_clients

_FOLDER = Path(__file__).parent


def source(name: str) -> str:
    """The text of one file, "layout" or a script's name."""
    return (_FOLDER / f"{name}.lua").read_text()


def load_script(redis: Redis, name: str, *, clock_key: str = "") -> Script:
    """The script, callable with `args=[...]`.

    With `clock_key` the time is what stands in that key (ms) instead of the server's: for simulations.
    """
    clock = f"now_ms = function() return tonumber(redis.call('GET', '{clock_key}')) end\n" if clock_key else ""
    return redis_clients.load_script(redis, source("layout"), clock, source(name))
