"""The end of a task on request.

A waiting task ends here: its row, its entry and its ticket. For a running one cancel.lua sets a flag on its entry; at
the next step boundary its worker reads it (tick.lua, workers/gpu/loop.py `_tick`), takes the samples out of the engine
and settles the task as cancelled (workers/gpu/settlement.py). After the GPU it ends before its next stage
(states.take_stage). A cancel that was lost is repeated by workers/recovery/cancels.py.
"""

import logging

from redis.exceptions import RedisError

from generation.queue import client as queue_client
from generation.tasks import states
from generation.tasks.models import Task

_log = logging.getLogger(__name__)


def cancel_task(task: Task) -> Task:
    """Ask for the end of a task: a waiting one ends at once, a running one at its next step, an ended one stays as it
    is.
    """
    states.request_cancel(task.id)
    try:
        queue_client.cancel(task.id)
    except RedisError as error:
        _log.warning("cancel of %s stays with the reconciler: %s", task.id, error)
    task.refresh_from_db()
    return task
