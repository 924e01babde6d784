"""Which Celery queues a worker reads next.

A GPU worker needs tickets only to be woken and to show the truth in Flower: the order of work is decided in Redis by
the claim. So its own queue (`dq.*`, the tickets of what it runs) is always read first, and p0 to p3 only while the
worker's gate is open: the engine is idle and few tickets are held. Other workers have no gate and read their queues
in the given order.

kombu asks the cycle before every read. Back-pressure belongs here and nowhere else: overriding `can_consume` would
leave a message that Redis has already handed out in a socket buffer, where a crash loses it.
"""

from collections.abc import Callable

GATED = ("p0", "p1", "p2", "p3")


class GatedCycle:
    """kombu's interface of a queue order: `update`, `consume`, `rotate`."""

    gate: Callable[[], bool] = staticmethod(lambda: True)  # set once by the GPU worker; True: p0..p3 may be read

    def __init__(self) -> None:
        self._queues: list[str] = []

    def update(self, queues: list[str]) -> None:
        own = [queue for queue in queues if queue.startswith("dq.")]
        gated = [queue for queue in GATED if queue in queues]
        self._queues = own + gated + [queue for queue in queues if queue not in own and queue not in gated]

    def consume(self, n: int) -> list[str]:
        if type(self).gate():
            return self._queues[:n]
        return [queue for queue in self._queues[:n] if queue not in GATED]

    def rotate(self, last_used: str) -> str:
        return last_used
