"""Which Celery queues a worker reads next.

A GPU worker needs tickets only to be woken and to show the truth in Flower: the order of work is decided in Redis by
the claim. So its own queue (`dq.*`, the tickets of what it runs) is always read first, and p0 to p3 only while the
worker's gate is open: the engine is idle and few tickets are held. Other workers have no gate and take the classes of
their queues in turns (class_turns.py).

kombu asks the order before every read, and BRPOP takes the first queue of it that is not empty: one command, however
many queues. Back-pressure belongs here and nowhere else: overriding `can_consume` would leave a message that Redis has
already handed out in a socket buffer, where a crash loses it.

Imported by every worker (`imports` in imagegenx_site/celery.py).
"""

import time
from collections.abc import Callable
from typing import Any

from celery.signals import worker_init
from kombu.transport import redis as transport

from generation.queue.class_turns import ClassTurns
from imagegenx_site.broker_restart import RestartSafeQoS
from imagegenx_site.celery import app

GATED = ("p0", "p1", "p2", "p3")


class ReadOrder:
    """kombu's interface of a queue order: `update`, `consume`, `rotate`."""

    gate: Callable[[], bool] = staticmethod(lambda: True)  # set once by the GPU worker; True: p0..p3 may be read

    def __init__(self) -> None:
        self._own: list[str] = []
        self._gated: list[str] = []
        self.turns = ClassTurns(app.conf.queue_shares)

    def update(self, queues: list[str]) -> None:
        self._own = [queue for queue in queues if queue.startswith("dq.")]
        self._gated = [queue for queue in GATED if queue in queues]
        self.turns.set_queues(queue for queue in queues if queue not in self._own and queue not in self._gated)

    def consume(self, n: int) -> list[str]:
        gated = self._gated if type(self).gate() else []
        return [*self._own, *gated, *self.turns.order()][:n]

    def rotate(self, last_used: str) -> str:
        self.turns.took(last_used)
        return last_used


class TimedQoS(RestartSafeQoS):
    """kombu's bookkeeping of delivered messages, which tells the read order how long each was worked on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._begun: dict[str, tuple[str, float, float]] = {}  # tag -> queue, seconds charged, moment

    def append(self, message: Any, delivery_tag: str) -> None:
        super().append(message, delivery_tag)
        queue = message.delivery_info["routing_key"]
        self._begun[delivery_tag] = queue, self._turns.begin(queue), time.monotonic()

    def ack(self, delivery_tag: str) -> None:
        self._end(delivery_tag)
        super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self._end(delivery_tag)
        super().reject(delivery_tag, requeue=requeue)

    def restore_unacked(self, client: Any = None) -> None:
        self._begun.clear()
        super().restore_unacked(client)

    def _end(self, delivery_tag: str) -> None:
        queue, charged, begun = self._begun.pop(delivery_tag, ("", 0.0, 0.0))
        if queue:
            self._turns.end(queue, charged, time.monotonic() - begun)

    @property
    def _turns(self) -> ClassTurns:
        turns: ClassTurns = self.channel._queue_cycle.turns  # type: ignore[attr-defined]  # a ReadOrder
        return turns


@worker_init.connect(weak=False)
def time_messages(**_: Any) -> None:
    """For every channel made from now on."""
    transport.Channel.QoS = TimedQoS
