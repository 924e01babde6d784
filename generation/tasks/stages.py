"""The stages after the GPU: their order, their queues, and the messages that start them."""

import logging
from collections.abc import Sequence

from celery import chain, signature
from kombu.exceptions import OperationalError

logger = logging.getLogger(__name__)


STAGES = (("postprocess", "cpu"), ("upload", "io"), ("notify", "io"))  # function and queue, in order


LATE = "late"  # queue of enlargements after delivery: processes of their own, so that first versions never wait for one


def send_stages(task_id: str, stages: Sequence[tuple[str, str]] = STAGES) -> None:
    """The messages for what follows the GPU. Lost ones are sent again."""
    try:
        chain(*(signature(name, (task_id,), queue=queue, immutable=True) for name, queue in stages)).apply_async()
    except OperationalError as error:
        logger.warning("stages of %s are left to the reconciler: %s", task_id, error)
