"""Tasks whose tickets were revoked through Celery (generation/queue/revoke.py) are cancelled."""

from uuid import UUID

from redis import Redis

from generation.queue.revoke import REVOKED
from generation.tasks.cancel import cancel_task
from generation.tasks.models import Task


def run(redis: Redis) -> None:
    """Noted ids are removed when they have been acted upon: a crash in between repeats it."""
    for task_id in redis.sscan_iter(REVOKED, count=100):
        task = Task.objects.filter(pk=UUID(task_id)).first()
        if task is not None:
            cancel_task(task)
        redis.srem(REVOKED, task_id)
