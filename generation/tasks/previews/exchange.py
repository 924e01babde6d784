"""How the web process asks a CPU worker for a preview: the picture and what to do with it lie in Redis for a minute,
under a new id; a message of the queue `cpu` names the id; the answer lies beside it. No row, no file, no quota: a
preview that is lost is asked for again.

The web process has no OpenCV, and a preview takes a worker some milliseconds. It waits on the event loop
(generation/api/previews/pictures.py).
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from generation.queue.celery_wire import stage_message
from imagegenx_site import redis_clients

MESSAGE: Final = "preview"  # name of the Celery function (workers/stages/preview.py)
QUEUE: Final = "cpu"  # without a class: read in turns with the stages of tasks
KEPT_S: Final = 60
LARGEST_SIDE: Final = 1024  # pixels of a picture that is handed over


@dataclass(frozen=True)
class Asked:
    """`picture`: PNG. `work`: {"control_type", "ready"} or {"watermark"} (a block of a recipe)."""

    picture: bytes
    work: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """A PNG, or in words why there is none."""

    picture: bytes = b""
    fault: str = ""


def ask(asked: Asked) -> str:
    """Hand it to a worker; the id to look for. Raises RedisError."""
    identifier = str(uuid.uuid4())
    client = redis_clients.bytes_client()
    client.set(f"gx:preview:asked:{identifier}", _packed(asked.work, asked.picture), ex=KEPT_S)
    client.lpush(QUEUE, stage_message(MESSAGE, identifier, QUEUE))
    return identifier


def take(identifier: str) -> Asked | None:
    """What is asked under the id; None when it was taken before, or nobody waits any more. Raises RedisError."""
    kept = redis_clients.bytes_client().getdel(f"gx:preview:asked:{identifier}")
    if kept is None:
        return None
    work, picture = _unpacked(kept)
    return Asked(picture, work)


def reply(identifier: str, answer: Answer) -> None:
    """Raises RedisError."""
    packed = _packed({"fault": answer.fault}, answer.picture)
    redis_clients.bytes_client().set(f"gx:preview:made:{identifier}", packed, ex=KEPT_S)


def answered(identifier: str) -> bool:
    """Whether the answer is there. Raises RedisError."""
    return bool(redis_clients.bytes_client().exists(f"gx:preview:made:{identifier}"))


def answer_of(identifier: str) -> Answer | None:
    """The answer, which is gone then. Raises RedisError."""
    kept = redis_clients.bytes_client().getdel(f"gx:preview:made:{identifier}")
    if kept is None:
        return None
    facts, picture = _unpacked(kept)
    return Answer(picture, facts["fault"])


def forget(identifier: str) -> None:
    """Nobody waits for it any more. Raises RedisError."""
    redis_clients.bytes_client().delete(f"gx:preview:asked:{identifier}", f"gx:preview:made:{identifier}")


def _packed(facts: Mapping[str, Any], picture: bytes) -> bytes:
    return json.dumps(facts).encode() + b"\n" + picture


def _unpacked(kept: bytes) -> tuple[dict[str, Any], bytes]:
    facts, _, picture = kept.partition(b"\n")
    return json.loads(facts), picture
