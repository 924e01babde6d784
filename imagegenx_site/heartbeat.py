"""Signs of life of a process, given by its work loop itself, so that a hung loop gives none.

    {VAR_DIR}/run/{PROCESS_NAME}.alive   touched each 2 s; probes and the run script look at its age (deploy/health.py)
    proc:lease                           renewed each 5 s, for 30 s; the reconciler raises an alert when it runs out

Celery workers beat in each turn of their event loop and while they try to reach Redis again; beat at each look at its
schedule; the reconciler in each turn; a web process each second of its event loop. A GPU worker's engine has its
watchdog and its own lease (workers/gpu/watchdog.py): of it only the file is touched here. Without PROCESS_NAME (a
shell, a test) nothing is done.
"""

import logging
import os
import time
import uuid
from typing import Any, Final

from celery.signals import worker_shutdown
from django.conf import settings
from redis.exceptions import RedisError

from imagegenx_site import redis_clients
from imagegenx_site.pools import Pools
from imagegenx_site.readiness import ready_file

TOUCH_S: Final = 2.0
RENEW_S: Final = 5.0
LEASE_S: Final = 30.0
REDIS_TIMEOUT_S: Final = 0.5  # of the work loop: an unreachable Redis may cost so much, each RENEW_S
GPU_WORKER: Final = "gpu-worker"
_log = logging.getLogger(__name__)


class Heartbeat:
    """`pool`: the kind of process; empty: no lease, only the file. `name`: of this one, shown in alerts."""

    def __init__(self, process: str, name: str, pool: str) -> None:
        self._file = ready_file(process).with_suffix(".alive")
        self._member = f"{name[:63]}-{uuid.uuid4().hex}"
        self._pool = pool
        self._pools: Pools | None = None
        self._touch_at = self._renew_at = 0.0

    def beat(self) -> None:
        """Call it in every turn of the loop, from one thread."""
        now = time.monotonic()
        if now < self._touch_at:
            return
        self._touch_at = now + TOUCH_S
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.touch()
        if self._pool and now >= self._renew_at:
            self._renew_at = now + RENEW_S
            self._renew()

    def leave(self) -> None:
        """The process ends in order."""
        self._file.unlink(missing_ok=True)
        if self._pools is not None:
            try:
                self._pools.leave(self._member)
            except RedisError as error:
                _log.warning("the lease of %s is not given back: %s", self._member, error)

    def _renew(self) -> None:
        try:
            if self._pools is None:
                self._pools = Pools(redis_clients.connect(settings.REDIS_URL, REDIS_TIMEOUT_S), {})
            if self._pools.renew(self._member, LEASE_S):
                self._pools.arrive(self._member, self._pool)
        except RedisError as error:
            _log.debug("no sign of life: %s", error)


def of_this_process() -> Heartbeat | None:
    """None without PROCESS_NAME."""
    process = os.environ.get("PROCESS_NAME", "")
    if not process:
        return None
    return Heartbeat(process, settings.WORKER_NAME or process, "" if process.startswith("gpu") else process)


def beat_with_celery() -> None:
    """Let Celery workers of this process beat: their loops ask in each turn, and in each second of a lost connection,
    whether to shut down.
    """
    from celery.worker import state
    from celery.worker.consumer import consumer

    heartbeat = of_this_process()
    if heartbeat is None:
        return
    ask = state.maybe_shutdown

    def beat_and_ask() -> None:
        heartbeat.beat()
        ask()

    def leave(**_: Any) -> None:
        heartbeat.leave()

    for module in (state, consumer):
        module.maybe_shutdown = beat_and_ask  # type: ignore[attr-defined]  # missing in the stubs
    worker_shutdown.connect(leave, weak=False, dispatch_uid="heartbeat")
