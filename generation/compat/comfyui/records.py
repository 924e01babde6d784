"""What was asked for: the graph and the ending nodes of a task, and the tasks of a key under each `client_id`.

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
_MOST_GRAPH: Final = 64 << 10  # bytes of a graph that is kept
_CLIENTS: Final = UUID("1f3c9a60-6f0f-4c55-8d5e-0d6f0c4f9a11")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptRecord:
    """One prompt. `graph` is empty when it was too large to keep."""

    task_id: UUID
    ends: list[str]
    sampler: str
    client_id: str
    graph: dict[str, Any]
    prefix: str


def keep(key: ApiKey, record: PromptRecord) -> None:
    """Remember it, and tell the sockets of its client."""
    graph = json.dumps(record.graph)
    kept = {**vars(record), "task_id": str(record.task_id), "graph": record.graph if len(graph) <= _MOST_GRAPH else {}}
    client = redis_clients.text_client()
    try:
        client.set(_name(record.task_id), json.dumps(kept), ex=KEPT_S)
        client.lpush(_list(key), str(record.task_id))
        client.ltrim(_list(key), 0, MOST - 1)
        client.expire(_list(key), KEPT_S)
    except redis.RedisError as error:
        _log.warning("a prompt will be missing in the history: %s", error)
    if record.client_id:
        events.publish(watched(key, record.client_id), "prompt", {"task": str(record.task_id)})


def find(task_id: UUID) -> PromptRecord | None:
    """The record of a task; the caller asks whether the task may be seen."""
    found = redis_clients.text_client().get(_name(task_id))
    if not found:
        return None
    kept = json.loads(found)
    return PromptRecord(**{**kept, "task_id": UUID(kept["task_id"])})


def newest(key: ApiKey) -> list[PromptRecord]:
    """The prompts of a key, the newest first."""
    ids = redis_clients.text_client().lrange(_list(key), 0, MOST - 1)
    return [record for one in ids if (record := find(UUID(one)))]


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


def _name(task_id: UUID) -> str:
    return f"gx:comfy:prompt:{task_id}"


def _list(key: ApiKey) -> str:
    return f"gx:comfy:key:{key.pk}"
