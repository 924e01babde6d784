"""What follows the death of a GPU worker, in the rows.

1 Its watchdog (workers/gpu/watchdog.py) sees the process end or hang; if both died, leases.py sees the lease expire.
2 requeue_dead.lua requeues its tasks before all that wait, gives up those that crash again and again, and leaves a
  note of each in Redis.
3 Here the notes become moves of rows: running -> queued with a new ticket, failed or cancelled; and an alert.
"""

import json
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

from redis import Redis

from generation.queue import client as queue_client
from generation.tasks import states
from generation.tasks.enqueue import entry_of
from generation.tasks.models import Status, Task
from generation.tasks.reasons import Code, Reason
from generation.telemetry import alerts
from generation.telemetry.models import Alert


def run(redis: Redis) -> None:
    """A note is read, acted upon, then removed: a crash in between repeats it. One round trip where there is none."""
    with redis.pipeline(transaction=False) as pipe:
        for key in _NOTES:
            pipe.llen(key)
        lengths = dict(zip(_NOTES, pipe.execute(), strict=True))
    for key in (key for key, length in lengths.items() if length):
        while note := redis.lindex(key, 0):
            _NOTES[key](note)
            redis.lrem(key, 1, note)


def _requeue(raw: str) -> None:
    note = json.loads(raw)
    row = Task.objects.filter(pk=note["id"], status__in=[Status.QUEUED, Status.RUNNING]).first()
    if row is None:
        return
    if row.status == Status.RUNNING and row.worker == note["worker"]:
        reason = Reason(Code.WORKER_LOST, f"worker lost: {note['cause']}")
        states.requeue(row.id, worker=row.worker, attempt=row.attempt, reason=reason)
    queue_client.resend_ticket(entry_of(row), id_suffix=str(row.attempt))  # another worker may run it already


def _fail(raw: str) -> None:
    note = json.loads(raw)
    message = f"The task crashed its worker repeatedly, finally while running alone ({note['cause']})."
    states.fail(UUID(note["id"]), code="worker_crashed", message=message)


def _cancel(task_id: str) -> None:
    states.cancel_if_requested(UUID(task_id), among=[Status.QUEUED, Status.RUNNING])


def _raise_alert(raw: str) -> None:
    note = json.loads(raw)
    alerts.raise_alert(Alert.Kind.WORKER_LOST, note["worker"], note["cause"], note.get("at"))


_NOTES: Final[Mapping[str, Callable[[str], None]]] = {
    "gq:resend_tickets": _requeue,
    "gq:given_up": _fail,
    "gq:to_cancel": _cancel,
    "gq:lost_workers": _raise_alert,
}
