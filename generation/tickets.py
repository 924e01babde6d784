"""Tickets and the buffer: how a row that may run becomes known to the GPU workers, and how it is withdrawn.

The row in Postgres is the truth. What stands in Redis is an index of it that can be lost at any moment and is rebuilt
by the reconciler: the buffer (order, batch keys, leases) and one Celery message per task, the ticket, which carries
the id only.

Redis keys of the queues (one instance, no cluster: the scripts touch keys they compute). `{id}` is the dashed UUID,
`{class}` 0 to 3.

    key                type   content                                                                   lifetime
    gq:t:{id}          hash   st state (w waiting, r running, x ended), cls class, key batch key, usr user, 15 min once
                              wt weight, sc created ms, exp expires ms (0 never), mdl model, n samples, ended
                              tag place in the order, own worker, at fence, cx cancel asked, cr crashes, iso alone
    gq:w:{class}:{key} zset   waiting ids of one batch key, by tag                                      while any waits
    gq:k:{class}       zset   batch keys by the tag of their first task                                 while any waits
    gq:f:{class}       hash   user -> tag where the user's asked work ends (start-time fair queueing)   while any waits
    gq:v               hash   class -> virtual time of its users                                        while any waits
    gq:pass            hash   class -> stride pass (work served / share); vt: virtual time of classes   for ever
    gq:n, gq:work      hash   class -> waiting tasks; class -> sum of their weights                     for ever
    gq:run:{worker}    set    ids that a worker holds                                                   while held
    gq:lease           zset   worker -> end of its lease (ms)                                           while it lives
    gq:lastbeat        string ms of the last lease renewal by anybody                                   for ever
    gq:grace           string ms when an outage of Redis ended; strangers are left alone 2 s after it       10 s
    gq:retick          list   JSON {id, worker, cause}: put back after a crash; tickets must be sent       until read
    gq:dead            list   the same for tasks given up: the reconciler fails them                    until read
    gq:dropped         list   ids to cancel; gq:expired: ids that expired while waiting                 until read
    gq:epoch           string present since the buffer was last rebuilt; absent: Redis was emptied      for ever
    gq:ev              stream events for clients (generation/events.py)                                 trimmed
    p0..p3, cpu, io    list   Celery messages; dq.{worker}: tickets of what that GPU worker runs        until read
    unacked*           hash   Celery: delivered, not yet acknowledged                                   until then

Worker names in gq:run and gq:lease are unique per start ("gpu1-4711-5f3a"); the queue dq.gpu1 survives a restart.
"""

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal
from uuid import UUID

from django.conf import settings
from kombu.exceptions import OperationalError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from generation.lua import load_script
from imagegenx_site.celery import app

CLASSES = (0, 1, 2, 3)
LUA = Path(__file__).parent / "lua"
logger = logging.getLogger(__name__)


def enqueue(
    task_id: UUID,
    *,
    priority: int,
    batch_key: str,
    user_id: int,
    weight: float,
    created_ms: int,
    expires_ms: int,
    model: str,
    samples: int = 1,
) -> bool:
    """Puts a queued row into the buffer and sends its ticket. Call it after the row is committed; calling it again
    changes nothing.

    `weight` is the work the task asks for (pixel-steps over all its samples): users and classes are charged by it.
    `expires_ms` 0 means never. Answers whether the task was new to the buffer. An unreachable Redis is no error of
    the caller's: the row is safe, the answer is False, and the reconciler enqueues it when Redis is back.
    """
    args = [task_id, priority, batch_key, user_id, float(weight), created_ms, expires_ms, model, samples]
    try:
        new = bool(_script("enqueue")(args=[str(arg) for arg in args]))
        if new:
            send_ticket(task_id, priority)
    except (RedisError, OperationalError) as error:
        logger.warning("task %s is left to the reconciler: %s", task_id, error)
        return False
    return new


def send_ticket(task_id: UUID | str, priority: int, *, again: str = "") -> None:
    """Sends the Celery message of a task; `again` tells a repeated ticket from the first in Flower ("<id>.<again>").

    Raises kombu's OperationalError when the broker is out of reach.
    """
    message_id = f"{task_id}.{again}" if again else str(task_id)
    app.send_task("generate", (str(task_id),), queue=f"p{priority}", task_id=message_id)


def cancel(task_id: UUID) -> Literal["removed", "signalled", "absent"]:
    """Withdraws a task from the queues: a waiting one at once, a running one at its next step. Raises RedisError."""
    return _script("cancel")(args=[str(task_id)]).decode()


def reclass(task_id: UUID, priority: int) -> bool:
    """Moves a waiting task with its ticket into another class; False when it does not wait. Raises RedisError."""
    return bool(_script("reclass")(args=[str(task_id), str(priority)]))


@dataclass(frozen=True)
class Backlog:
    """What waits, by class: number of tasks and their summed weight (pixel-steps)."""

    tasks: tuple[int, ...]
    work: tuple[float, ...]


def backlog() -> Backlog:
    """The waiting tasks of each class. Raises RedisError."""
    with client().pipeline(transaction=False) as pipe:
        pipe.hmget("gq:n", CLASSES)
        pipe.hmget("gq:work", CLASSES)
        tasks, work = pipe.execute()
    return Backlog(tuple(int(n or 0) for n in tasks), tuple(float(w or 0) for w in work))


@cache
def client() -> Redis:
    """This process's Redis connections for submitting; calls give up after REDIS_TIMEOUT_S."""
    timeout = settings.REDIS_TIMEOUT_S
    return Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=30,
    )


@cache
def _script(name: str):  # type: ignore[no-untyped-def]  # redis is untyped here
    return load_script(client(), LUA / f"{name}.lua")
