"""Which models GPU workers have in memory, as each publishes it (gq:models:{worker}), and the command by which an
operator has one loaded or dropped: a control message of Celery to that worker alone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from imagegenx_site import redis_clients
from imagegenx_site.celery import app

KEPT_S: Final = 30  # from a worker's last word to its entry's end; it publishes anew every PUBLISH_S
PUBLISH_S: Final = 10.0
COMMAND: Final = "model"  # the control command (workers/gpu/model_commands.py)
Sizes = Mapping[str, tuple[int, str]]
"""Bytes and precision by `name@revision`."""
Action = Literal["load", "unload"]


@dataclass(frozen=True)
class WorkerModels:
    """`node`: the worker's name in Celery."""

    node: str
    device: str
    models: Sizes


def publish(worker: str, found: WorkerModels) -> None:
    """Raises RedisError."""
    entry = json.dumps({"node": found.node, "device": found.device, "models": found.models})
    redis_clients.text_client().set(f"gq:models:{worker}", entry, ex=KEPT_S)


def withdraw(worker: str) -> None:
    """The worker ends. Raises RedisError."""
    redis_clients.text_client().delete(f"gq:models:{worker}")


def held() -> list[WorkerModels]:
    """Of every living GPU worker, by name. Raises RedisError."""
    client = redis_clients.text_client()
    keys = list(client.scan_iter("gq:models:*", count=1000))
    entries = [json.loads(entry) for entry in (client.mget(keys) if keys else []) if entry]
    found = [
        WorkerModels(one["node"], one["device"], {key: (size, how) for key, (size, how) in one["models"].items()})
        for one in entries
    ]
    return sorted(found, key=lambda one: one.node)


def ask(node: str, action: Action, name: str) -> None:
    """Send a worker the command. Raises kombu's OperationalError."""
    app.control.broadcast(COMMAND, arguments={"action": action, "name": name}, destination=[node])
