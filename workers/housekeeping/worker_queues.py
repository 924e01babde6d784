"""Queues of GPU workers that do not come back: pods have new names with each roll-out, and what Celery redelivers to
dq.{name} later (a dead worker's unacknowledged tickets) would lie there for ever. Its tasks run elsewhere already.
"""

from typing import Final

from celery import shared_task

from generation.queue import client as queue_client
from generation.telemetry import alerts
from imagegenx_site import redis_clients

_PREFIX: Final = "dq."
_BINDING: Final = f"_kombu.binding.{_PREFIX}"


@shared_task(name="maintenance.worker_queues")
def delete_abandoned_queues() -> int:
    """Delete the queues and bindings of workers that have no lease; how many."""
    redis = redis_clients.text_client()
    found = {key.removeprefix("_kombu.binding.") for key in redis.scan_iter(f"{_BINDING}*", count=1000)}
    found |= set(redis.scan_iter(f"{_PREFIX}*", count=1000))
    living = {_PREFIX + alerts.name_of(worker) for worker in queue_client.living_workers()}
    abandoned = sorted(found - living)
    for queue in abandoned:
        redis.delete(queue, f"_kombu.binding.{queue}")
    return len(abandoned)
