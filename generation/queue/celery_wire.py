"""The Celery message of a ticket, word for word as Celery sends it, made without sending it.

Celery and kombu build and send one message in half a millisecond and two round trips. Here they build one, once, into
the memory of the process; every ticket is that message with its own ids, so that the script which puts a task into the
buffer can push it onto the queue in the same atomic step (docs/decisions/0006).
"""

import base64
import json
import random
import threading
from functools import cache
from uuid import UUID

from kombu import Connection, Queue

from imagegenx_site.celery import app

_lock = threading.Lock()
_TASK, _MESSAGE, _TAG, _QUEUE, _BODY = "the-task", "the-message", "the-tag", "the-queue", "the-body"
_ARGUMENTS = "the-arguments"


def stage_message(name: str, task_id: UUID | str, queue: str) -> str:
    """The message that asks a worker of that queue to do a stage of the task. Its id tells the stage and the task."""
    return _filled(name, str(task_id), queue, f"{task_id}.{name}", f"('{task_id}',)")


def ticket_message(task_id: UUID | str, priority: int, *, shown: str = "", message_id: str = "") -> str:
    """The message for queue p{priority} that asks a GPU worker to run the task. `shown`: what Flower and `inspect` show
    as its arguments, never a word of a prompt. `message_id`: the task's id where it is left out.
    """
    return _filled("generate", str(task_id), f"p{priority}", message_id or str(task_id), shown)


def _filled(name: str, task_id: str, queue: str, message_id: str, shown: str) -> str:
    outer, inner = _template(name)
    body = base64.b64encode(inner.replace(_TASK, task_id).encode()).decode()
    filled = (
        outer.replace(_ARGUMENTS, json.dumps(shown)[1:-1])
        .replace(_MESSAGE, message_id)
        .replace(_TASK, task_id)
        .replace(_QUEUE, queue)
    )
    return filled.replace(_TAG, f"{message_id}.{random.getrandbits(64):x}").replace(_BODY, body)


def _template(name: str) -> tuple[str, str]:
    """A message as JSON text and its body as JSON text, with marks where the ids belong."""
    with _lock:
        return _made(name)


@cache
def _made(name: str) -> tuple[str, str]:
    with Connection("memory://") as connection:
        channel = connection.default_channel
        Queue(_QUEUE, channel=channel).declare()
        with app.amqp.Producer(channel, auto_declare=False) as producer:
            app.send_task(name, (_TASK,), queue=_QUEUE, task_id=_MESSAGE, argsrepr=_ARGUMENTS, producer=producer)
        message = channel._get(_QUEUE)  # type: ignore[attr-defined]  # of kombu's virtual transports, Redis's base
    inner = base64.b64decode(message["body"]).decode()
    message["body"], message["properties"]["delivery_tag"] = _BODY, _TAG
    return json.dumps(message), inner
