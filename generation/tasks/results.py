"""Pictures kept for a while, so that an identical request with a seed needs no GPU (docs/decisions/0005).

An identity stands for everything that decides a picture's pixels (workers.engine.requests). What is kept is the
lossless picture as the engine made it: post-processing, formats, watermarks, rows and objects are each task's own.
A cache: whatever fails here costs the saving, never a task.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.conf import settings
from redis import RedisError

from imagegenx_site import redis_clients
from storage import keys
from storage.errors import ObjectNotFound, StorageError
from storage.store import get_store

COUNT: Final = "gq:res:count"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """A picture as 8-bit RGB PNG, and the warnings that the client gets with it."""

    png: bytes
    warnings: tuple[str, ...]


def find(task_id: UUID, identities: Sequence[str]) -> dict[str, Result]:
    """Those of the pictures that are kept, by identity. The task is noted as one that has them."""
    seconds = lifetime()
    if not identities or not seconds:
        return {}
    found = {}
    try:
        for identity, entry in zip(
            identities, redis_clients.text_client().mget([_entry(one) for one in identities]), strict=True
        ):
            if entry is not None:
                known = json.loads(entry)
                with suppress(ObjectNotFound):  # swept to keep within RESULT_CACHE_BYTES
                    found[identity] = Result(get_store("raw").read(known["object"]), tuple(known["warnings"]))
        _note(task_id, list(found), seconds)
        redis_clients.text_client().hincrby(COUNT, "hits", len(found))
        redis_clients.text_client().hincrby(COUNT, "misses", len(identities) - len(found))
    except (RedisError, StorageError) as error:
        _log.warning("result cache not read", extra={"task_id": str(task_id), "error": str(error)})
    return found


def keep(task_id: UUID, identity: str, result: Result) -> None:
    """Remember a picture that the task's own run has made."""
    seconds = lifetime()
    if not seconds:
        return
    key = keys.result_key(identity, hashlib.sha256(result.png).hexdigest())
    try:
        get_store("raw").put(key, result.png, "image/png")
        _note(task_id, [identity], seconds)
        entry = json.dumps({"object": key, "warnings": result.warnings})
        redis_clients.text_client().set(_entry(identity), entry, ex=seconds)
    except (RedisError, StorageError) as error:
        _log.warning("result not kept", extra={"task_id": str(task_id), "error": str(error)})


def delete_of(task_id: UUID) -> None:
    """Drop the pictures of a task that its owner deletes, whichever task they were made for."""
    try:
        for identity in redis_clients.text_client().smembers(_task_key(task_id)):
            entry = redis_clients.text_client().getdel(_entry(identity))
            if entry is not None:
                get_store("raw").delete(json.loads(entry)["object"])
        redis_clients.text_client().delete(_task_key(task_id))
    except (RedisError, StorageError) as error:  # what stays is swept when its time is over
        _log.warning("results of a deleted task stay", extra={"task_id": str(task_id), "error": str(error)})


def counted() -> dict[str, int]:
    """Hits and misses of all workers so far."""
    return {name: int(count) for name, count in redis_clients.text_client().hgetall(COUNT).items()}


def lifetime() -> int:
    """Of an entry, in seconds; its object is swept a little later (workers/housekeeping/results.py)."""
    return int(settings.RESULT_CACHE_HOURS * 3600)


def _note(task_id: UUID, identities: Sequence[str], lifetime: int) -> None:
    if identities:
        redis_clients.text_client().sadd(_task_key(task_id), *identities)
        redis_clients.text_client().expire(_task_key(task_id), lifetime)


def _entry(identity: str) -> str:
    return f"gq:res:{identity}"


def _task_key(task_id: UUID) -> str:
    return f"gq:res:of:{task_id}"
