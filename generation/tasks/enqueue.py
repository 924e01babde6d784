"""Puts committed tasks into the queue; changes the priority of a waiting one."""

from django.db import transaction

from generation.queue import client as queue_client
from generation.tasks import states
from generation.tasks.models import Task


def enqueue(task: Task) -> None:
    """Make a committed, queued row known to the workers; also what the reconciler does for rows that Redis forgot."""
    queue_client.enqueue([entry_of(task)])


def entry_of(task: Task) -> queue_client.Entry:
    return queue_client.Entry(
        task.id,
        task.priority,
        task.batch_key,
        task.user_id,
        weight=task.cost * 1e6,
        created_ms=int(task.created_at.timestamp() * 1000),
        expires_ms=int(task.expires_at.timestamp() * 1000),
        model=task.model_key,
        samples=task.parameters.num_images,
        kind=task.kind,
    )


def set_priority(task: Task, priority: int) -> bool:
    """Change the priority of a queued task; whether it was still queued. Raises redis.RedisError, and then nothing has
    changed.
    """
    with transaction.atomic():
        moved = states.set_priority(task.id, priority)
        if moved:
            queue_client.set_priority(task.id, priority)
    return moved
