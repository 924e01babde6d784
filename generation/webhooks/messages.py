"""The messages that ask a webhook worker to make an attempt: on queue `webhooks` (one for each class of
tasks), which has processes of its own, so that no upload and no end of a task waits for a receiver.

A message carries the delivery's id. While one waits in the queue, no second one is sent for the same delivery: the
sweep (workers/housekeeping/webhooks.py) finds a delivery again and again until it has been tried.
"""

import logging
from collections.abc import Iterable
from typing import Final
from uuid import UUID

import redis
from celery import signature
from kombu.exceptions import OperationalError

from generation.queue.classes import queue_of
from imagegenx_site import redis_clients

QUEUE: Final = "webhooks"
FUNCTION: Final = "send_webhook"
_WAITING_S: Final = 60  # s after which a message that nobody took is taken for lost
_log = logging.getLogger(__name__)


def send_messages(delivery_ids: Iterable[UUID], priority: int) -> None:
    """One message for each delivery of a task of that class that has none in the queue. What can't be sent is left to
    the sweep.
    """
    queue = queue_of(QUEUE, priority)
    try:
        for delivery_id in delivery_ids:
            if redis_clients.text_client().set(_key(delivery_id), "1", nx=True, ex=_WAITING_S):
                signature(FUNCTION, (str(delivery_id),), queue=queue, immutable=True).apply_async()
    except (OperationalError, redis.RedisError) as error:
        _log.warning("webhooks are left to the sweep: %s", error)


def taken(delivery_id: UUID) -> None:
    """The delivery's message is no longer in the queue."""
    try:
        redis_clients.text_client().delete(_key(delivery_id))
    except redis.RedisError as error:
        _log.warning("Redis is unreachable: %s", error)


def _key(delivery_id: UUID) -> str:
    return f"gx:webhook:waiting:{delivery_id}"
