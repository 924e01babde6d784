"""Celery's control commands `revoke` and `terminate`, from Flower or `celery control`: they cancel tasks.

Every worker gets such a command, but the ticket that it means lies in Redis or with one of them, and a task that runs
must end at its next step while its process works on. So each worker notes the tasks that are meant, and the reconciler
cancels them as the API does (workers/recovery/revoked.py). Celery is to name the messages revoked as well, so that
those which wait in a worker are dropped and shown as revoked. No process is killed for a task: it works for others.
Messages that belong to no task, as those of the clock, are Celery's alone.

Imported by every worker (`imports` in imagegenx_site/celery.py).
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from celery.signals import task_revoked
from celery.utils.functional import maybe_list
from celery.worker import control
from celery.worker import state as worker_state

from imagegenx_site import redis_clients

REVOKED: Final = "gq:revoked"
_celery_revoke: Final = vars(control)["revoke"]


@control.control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")
def revoke(
    state: Any, task_id: str | Sequence[str], terminate: bool = False, signal: str | None = None, **options: Any
) -> Any:
    """Cancel the tasks of these tickets; revoke other messages."""
    ids = set(maybe_list(task_id) or ())
    of_tasks = {message_id for message_id in ids if _note(_tasks_of(message_id))}
    answer = _celery_revoke(state, of_tasks, **options) if of_tasks else None
    others = ids - of_tasks
    return _celery_revoke(state, others, terminate, signal, **options) if others else answer


@control.control_command(variadic="task_id", signature="<signal> [id1 [id2 [... [idN]]]]", args=[("signal", str)])
def terminate(state: Any, signal: str, task_id: str | Sequence[str], **_: Any) -> Any:
    """Cancel the tasks of these tickets; terminate other messages' work."""
    return revoke(state, task_id, terminate=True, signal=signal)


@task_revoked.connect
def cancel_when_dropped(request: Any = None, **_: Any) -> None:
    """A message whose task no worker knew when it was revoked, as that of a later stage, has come and was dropped."""
    if request is not None and request.id in worker_state.revoked:
        _note(_task_ids(request.args or ()))


def _tasks_of(message_id: str) -> list[str]:
    """Of a ticket: its own id. Of another message that this worker holds: its argument."""
    held = worker_state.requests.get(message_id)
    return _task_ids(held.args if held is not None else [message_id.partition(".")[0]])


def _task_ids(arguments: Sequence[Any]) -> list[str]:
    """The first argument, if it is an id of ours: version 7; Celery's own are of version 4."""
    try:
        found = UUID(str(arguments[0]))
    except (IndexError, ValueError):
        return []
    return [str(found)] if found.version == 7 else []


def _note(task_ids: Iterable[str]) -> bool:
    """For the reconciler; whether there are any. Raises RedisError."""
    ids = list(task_ids)
    if ids:
        redis_clients.bytes_client().sadd(REVOKED, *ids)
    return bool(ids)
