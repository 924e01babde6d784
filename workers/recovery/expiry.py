"""Rows that waited too long: queued -> expired, and out of the buffer."""

from generation.queue import client as queue_client
from generation.tasks import states


def run() -> None:
    for task_id in states.expire_due():
        queue_client.cancel(task_id)
