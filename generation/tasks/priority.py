"""Another class for a waiting task."""

from django.db import transaction

from generation.queue import client as queue_client
from generation.tasks import states
from generation.tasks.models import Task


def reprioritise(task: Task, priority: int) -> bool:
    """Put a waiting task into another class; whether it still waited. Raises redis.RedisError, and then nothing has
    changed.
    """
    with transaction.atomic():
        moved = states.set_priority(task.id, priority)
        if moved:
            queue_client.reclass(task.id, priority)
    return moved
