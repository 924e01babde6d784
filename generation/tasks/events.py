"""Events of tasks: one Redis stream, written by every process, read by one reader in each event loop of the web.

Events are hints for watchers; the row is the truth. An unreachable Redis therefore costs a watcher a second,
never a task.
"""

import json
import logging
from typing import Any
from uuid import UUID

import redis
from redis import Redis
from redis.client import Pipeline

from imagegenx_site import redis_clients

STREAM = "gq:ev"


MAX_LENGTH = 20_000


_log = logging.getLogger(__name__)


def publish(task_id: UUID, kind: str, data: dict[str, Any]) -> None:
    """To the watchers of the task. `kind`: status, progress, preview, enlarging or updated."""
    try:
        _add(redis_clients.text_client(), task_id, kind, data)
    except redis.RedisError as error:
        _log.warning("event not published", extra={"task_id": str(task_id), "error": str(error)})


def add_status(pipe: Pipeline, task_id: UUID, status: str) -> None:
    """The task moved: published with what else the pipeline sends."""
    _add(pipe, task_id, "status", {"status": str(status)})


def publish_progress(task_id: UUID, percent: int, step: int, steps: int) -> None:
    """The task's samples have done `step` of `steps` denoising steps together."""
    publish(task_id, "progress", {"progress": percent, "step": step, "steps": steps})


def _add(client: "Redis[Any] | Pipeline", task_id: UUID, kind: str, data: dict[str, Any]) -> None:
    entry = {"task": str(task_id), "kind": kind, "data": json.dumps(data)}
    client.xadd(STREAM, entry, maxlen=MAX_LENGTH, approximate=True)
