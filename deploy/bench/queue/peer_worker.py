"""Plain Celery and celery-batches doing the same stand-in work: peers.py starts it, with a Python that
needs celery, redis and, for the second, celery-batches.

    plain      one message, one task, one at a time; four queues read in the order of their classes, acknowledged late
    batches    eight messages, or what came within 50 ms, are one call whose steps all eight share
"""

import json
import os
import time

from celery import Celery
from kombu import Queue
from redis import Redis

try:
    from celery_batches import Batches
except ImportError:  # the plain worker needs none
    Batches = None

BROKER = os.environ["PEER_BROKER"]
FIXED_MS, PER_SAMPLE_MS = (float(number) for number in os.environ["PEER_COST"].split(","))
app = Celery("peer_worker", broker=BROKER)
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=int(os.environ.get("PEER_PREFETCH", "1")),
    task_queues=[Queue(name) for name in ("p0", "p1", "p2", "p3")],
    broker_transport_options={"queue_order_strategy": "priority", "priority_steps": [0]},
    broker_connection_retry_on_startup=True,
)
done = Redis.from_url(BROKER)


def work(ids: list[str], steps: int) -> None:
    """All steps of a batch; one step alone is free."""
    started = time.time()
    for _ in range(steps):
        time.sleep(0.0 if steps == 1 else (FIXED_MS + PER_SAMPLE_MS * len(ids)) / 1000)
    finished = time.time()
    done.rpush("done", *(json.dumps([id_, started, finished]) for id_ in ids))


@app.task(name="plain")
def plain(id_: str, steps: int) -> None:
    work([id_], steps)


if Batches is not None:

    @app.task(name="batches", base=Batches, flush_every=8, flush_interval=0.05)
    def batches(requests: list) -> None:
        work([request.args[0] for request in requests], requests[0].args[1])
