"""Rows that waited too long: queued -> expired, and out of the buffer."""

from generation.queue import client as queue_client
from generation.tasks import states
from generation.tasks.open_tasks import RecentDays


def run(days: RecentDays) -> None:
    for task_id in states.expire_due(days.first_id()):
        queue_client.cancel(task_id)
