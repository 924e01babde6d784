"""What the API remembers in Redis so that the common requests need no Postgres (imagegenx_site/cache.py says how).

    cache   key                    value                                     lives     changed by
    key     prefix of an API key   a valid key with its user, team and plan; 5 min     saving any of these rows,
                                   no password; None: no such key                      `ApiKey.objects.update`
    task    task id                the task as polls see it, with its URLs;  10 s open generation/tasks/states.py,
                                   None: no such task                        or 15 min deletion, late enlargement
    lora    {scope}:{name}         active versions of a name in a scope:     1 min     saving a LoRA
                                   `all`, `team:7`, `user:7`

"Nothing there" is remembered for 60 s. Lifetimes vary by 10 %.
"""

import functools
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS, models, transaction

from imagegenx_site import redis_clients
from imagegenx_site.cache import Cache, CacheConfig

Row = TypeVar("Row", bound=models.Model)


@functools.cache
def keys() -> Cache:
    """By prefix: a valid key with its user, team and plan."""
    return Cache(redis_clients.cache_client(), CacheConfig("key", 300))


@functools.cache
def tasks() -> Cache:
    """By task id: what a poll shows."""
    return Cache(redis_clients.cache_client(), CacheConfig("task", 900))


@functools.cache
def loras() -> Cache:
    """By scope and name: active LoRA versions."""
    return Cache(redis_clients.cache_client(), CacheConfig("lora", 60))


def kept_rows(cache: Cache, key: str, load: Callable[[], Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """`cache.get` for a JSON object of packed rows."""

    def encoded() -> bytes | None:
        rows = load()
        return None if rows is None else json.dumps(rows, cls=DjangoJSONEncoder).encode()

    found = cache.get(key, encoded)
    return None if found is None else json.loads(found)


def packed(row: models.Model | None, *, without: tuple[str, ...] = ()) -> dict[str, Any] | None:
    """A row's columns, for JSON."""
    if row is None:
        return None
    names = (field.attname for field in row._meta.concrete_fields)
    return {name: getattr(row, name) for name in names if name not in without}


def unpacked(model: type[Row], values: Mapping[str, Any] | None) -> Row | None:
    """The row again, as if it had been read; columns that were left out are read when they are asked for."""
    if values is None:
        return None
    fields = [field for field in model._meta.concrete_fields if field.attname in values]
    read = [field.to_python(values[field.attname]) for field in fields]
    return model.from_db(DEFAULT_DB_ALIAS, [field.attname for field in fields], read)


def change(cache: Cache, entries: list[str]) -> None:
    """Block the entries at once, so that nobody caches the old rows; invalidate them after the commit."""
    cache.block(*entries)
    transaction.on_commit(partial(cache.invalidate, *entries))
