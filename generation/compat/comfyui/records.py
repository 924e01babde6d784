"""What was asked for: the graph and the ending nodes of a task, and the tasks of a key under each `client_id`.

A user has MOST_OF_USER records in Redis, which the queues of all share: the oldest go, whatever their key.

A socket that waits for the prompts of its client learns of new ones by an event under an id of their own (`watched`).
Lost records cost a client its history, never a task.
"""

import json
import logging
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid5

import redis

from generation.accounts.models import ApiKey
from generation.tasks import events
from imagegenx_site import redis_clients

KEPT_S: Final = 86400
MOST: Final = 100  # prompts of a key that are remembered
MOST_OF_USER: Final = 500
MOST_BYTES: Final = 16 << 10  # of a record; a larger one is kept without its graph
MOST_NAME: Final = 100  # characters of what the client named itself
_CLIENTS: Final = UUID("1f3c9a60-6f0f-4c55-8d5e-0d6f0c4f9a11")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptRecord:
    """One prompt. `graph` is empty when it was too large to keep, `ends` are those that there is room for."""

    task_id: UUID
    ends: list[str]
    sampler: str
    client_id: str
    graph: dict[str, Any]
    prefix: str


def keep(key: ApiKey, record: PromptRecord) -> None:
    """Remember it, and tell the sockets of its client."""
    name = str(record.task_id)
    kept = {**vars(record), "task_id": name, "prefix": record.prefix[:MOST_NAME], "ends": _fitting(record.ends)}
    text = json.dumps(kept)
    if len(text) > MOST_BYTES:
        text = json.dumps({**kept, "graph": {}})
    try:
        with redis_clients.text_client().pipeline() as pipe:  # one transaction: a record that no list names would stay
            pipe.set(_name(record.task_id), text, ex=KEPT_S)
            for place, most in ((_list(key), MOST), (_list_of_user(key), MOST_OF_USER)):
                pipe.lrem(place, 0, name).lpush(place, name)
                pipe.lrange(place, most, -1).ltrim(place, 0, most - 1).expire(place, KEPT_S)
            done = pipe.execute()
        if forgotten := {*done[3], *done[8]}:
            redis_clients.text_client().delete(*(_name(UUID(one)) for one in forgotten))
    except redis.RedisError as error:
        _log.warning("a prompt will be missing in the history: %s", error)
    if record.client_id:
        events.publish(watched(key, record.client_id), "prompt", {"task": str(record.task_id)})


def find(task_id: UUID) -> PromptRecord | None:
    """The record of a task; the caller asks whether the task may be seen."""
    found = redis_clients.text_client().get(_name(task_id))
    return _read(found) if found else None


def newest(key: ApiKey) -> list[PromptRecord]:
    """The prompts of a key, the newest first."""
    client = redis_clients.text_client()
    ids = client.lrange(_list(key), 0, MOST - 1)
    return [_read(found) for found in client.mget([_name(UUID(one)) for one in ids]) if found] if ids else []


def forget(key: ApiKey, task_ids: list[UUID] | None = None) -> None:
    """Take these prompts, or all of a key, out of its history."""
    client = redis_clients.text_client()
    mine = set(client.lrange(_list(key), 0, MOST - 1))
    for one in mine if task_ids is None else mine & set(map(str, task_ids)):
        client.lrem(_list(key), 0, one)
        client.delete(_name(UUID(one)))


def watched(key: ApiKey, client_id: str) -> UUID:
    """Under which id the events of a client's new prompts are published."""
    return uuid5(_CLIENTS, f"{key.pk}:{client_id}")


def _read(text: str) -> PromptRecord:
    kept = json.loads(text)
    return PromptRecord(**{**kept, "task_id": UUID(kept["task_id"])})


def _fitting(ends: list[str]) -> list[str]:
    """The first nodes whose names take a quarter of a record."""
    left, found = MOST_BYTES // 4, []
    for end in ends:
        left -= len(json.dumps(end))
        if left < 0:
            break
        found.append(end)
    return found


def _name(task_id: UUID) -> str:
    return f"gx:comfy:prompt:{task_id}"


def _list(key: ApiKey) -> str:
    return f"gx:comfy:key:{key.pk}"


def _list_of_user(key: ApiKey) -> str:
    return f"gx:comfy:user:{key.user_id}"
