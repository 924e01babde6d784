"""The stages after the GPU: what each takes a task from and moves it to, its queue, and the messages that start it.

A stage is a row of STAGES and a file of its name in workers/stages/, whose Celery function has the name too.
"""

import logging
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from celery import Signature, chain, signature
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from generation.queue.celery_wire import stage_message
from generation.queue.classes import queue_of
from generation.tasks.models import TERMINAL, Status
from imagegenx_site import redis_clients
from storage.store import is_local

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """`queue`: that of its messages, one for each class of tasks (generation/queue/classes.py). `source` and `target`:
    the states of a task before and after it. `cancellable`: a cancel that was asked for ends
    the task before this stage. `on_last_failure`: the task fails, the client is warned, or there is no last try.
    `label`: what a task that waits for it waits for.
    """

    name: str
    queue: str
    source: Status
    target: Status
    cancellable: bool
    on_last_failure: Literal["fail", "warn", "never_give_up"]
    label: str

    @property
    def after_delivery(self) -> bool:
        """Whether the client has the pictures already; then no move follows."""
        return self.source in TERMINAL


# The order is the order of the work. Queue `enlarge` has processes of its own, so that no first version waits for it.
STAGES: Final = (
    Stage("postprocess", "cpu", Status.GENERATED, Status.PROCESSED, True, "fail", "post-processing"),
    Stage("upload", "io", Status.PROCESSED, Status.STORED, True, "fail", "upload"),
    Stage("notify", "io", Status.STORED, Status.SUCCEEDED, False, "never_give_up", "completion and webhook"),
    Stage("enlarge", "enlarge", Status.SUCCEEDED, Status.SUCCEEDED, False, "warn", "enlargement"),
)
QUEUES: Final = tuple(dict.fromkeys(stage.queue for stage in STAGES))


def named(name: str) -> Stage:
    """The stage of that name. Raises KeyError."""
    return {stage.name: stage for stage in STAGES}[name]


def stages_from(state: str) -> tuple[Stage, ...]:
    """The stages to come for a task in that state, in order: up to its success, and after that those after delivery."""
    states = [stage.source for stage in STAGES]
    first = STAGES[states.index(Status(state)) :]
    return tuple(stage for stage in first if stage.after_delivery == first[0].after_delivery)


def follows_at_once(stage: Stage) -> Stage | None:
    """The stage that the process which has done `stage` goes on with, without a message; None: another process does.

    Stages of one queue are done in one visit. So are all up to the success where the store is a local disk: there an
    upload is a second name for a file, and three messages would cost more than the work.
    """
    following = next(iter(stages_from(stage.target)), None) if not stage.after_delivery else None
    if following is None or following.after_delivery:
        return None
    return following if following.queue == stage.queue or is_local("images") else None


def send_stages(task_id: UUID, priority: int, state: str = Status.GENERATED) -> None:
    """The messages for what follows that state, one for each visit, in the queues of the task's class, `priority`. Lost
    ones are sent again.
    """
    steps = stages_from(state)
    visits = [
        one for before, one in zip((None, *steps), steps, strict=False) if not before or not follows_at_once(before)
    ]
    try:
        if len(visits) == 1:
            _send(visits[0], task_id, priority)
        else:
            chain(*(_message(one, task_id, priority) for one in visits)).apply_async()
    except (OperationalError, RedisError) as error:
        logger.warning("stages of %s are left to the reconciler: %s", task_id, error)


def _send(stage: Stage, task_id: UUID, priority: int) -> None:
    queue = queue_of(stage.queue, priority)
    redis_clients.bytes_client().lpush(queue, stage_message(stage.name, task_id, queue))


def _message(stage: Stage, task_id: UUID, priority: int) -> "Signature[Any]":
    return signature(stage.name, (str(task_id),), queue=queue_of(stage.queue, priority), immutable=True)
