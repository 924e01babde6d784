"""Spans of a task, for OpenTelemetry. Off unless the standard OTEL_ variables name a receiver; then nothing is imported
and `record` returns at once.

The trace id is the task's UUID and the root's span id its low 64 bits, so that every process knows both from the id
alone and nothing is carried through queues. A span is recorded when it is over, from its two times: a list entry for
the caller. A side thread makes it, and a second one of OpenTelemetry sends it. Where they fall behind, spans are
dropped and the work goes on.

    task                  the root: submitted to its end                 generation/tasks/move_log.py, when it ends
    + request             the request that submitted it                  requests.py
    + queue               waiting for a GPU worker, once for each claim  generation/tasks/move_log.py
    + run                 on a GPU worker, once for each claim           workers/gpu/run_spans.py
    | + load, encode, denoise, decode
    + raw                 its lossless pictures made durable             workers/gpu/run_spans.py
    + postprocess         with a child for each step                     workers/stages/postprocess.py
    + upload, notify, enlarge                                            workers/stages
    + webhook             each attempt                                   generation/webhooks/delivery.py
"""

import atexit
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

from imagegenx_site.tracing.values import TaskSpan

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_WAITING_SPANS: Final = 20_000  # for the side thread; more are dropped
_FLUSH_S: Final = 3.0  # at the end of a process
_log = logging.getLogger(__name__)


def _asked_for(env: Mapping[str, str]) -> bool:
    """As the specification of OpenTelemetry's variables says: a receiver is named, and nothing switches traces off."""
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or env.get("OTEL_TRACES_EXPORTER", "") == "none":
        return False
    return any(env.get(name) for name in _ENDPOINTS)


ENABLED: Final = _asked_for(os.environ)
_waiting: queue.Queue[TaskSpan | None] = queue.Queue(_WAITING_SPANS)
_thread: threading.Thread | None = None
_starting = threading.Lock()


def record(span: TaskSpan) -> None:
    """Send a span that is over. Raises nothing, waits for nothing."""
    if not ENABLED:
        return
    try:
        _waiting.put_nowait(span)
    except queue.Full:
        return
    if _thread is None:
        _start()


@contextmanager
def timed(task_id: UUID, name: str, **attributes: Any) -> Iterator[None]:
    """A span around a block; an exception is its error."""
    if not ENABLED:
        yield
        return
    began, error = time.time(), ""
    try:
        yield
    except BaseException as raised:
        error = f"{type(raised).__name__}: {raised}"
        raise
    finally:
        record(TaskSpan(task_id, name, began, time.time(), attributes, error))


def _start() -> None:
    global _thread
    with _starting:
        if _thread is None:
            from celery.signals import worker_process_shutdown

            _thread = threading.Thread(target=_send, name="spans", daemon=True)
            _thread.start()
            atexit.register(flush)
            worker_process_shutdown.connect(flush, weak=False, dispatch_uid="spans")  # such a child runs no atexit


def _send() -> None:
    """The side thread: spans from the queue to OpenTelemetry, until `flush` ends it."""
    from imagegenx_site.tracing.exporter import Exporter

    exporter = Exporter()
    while (span := _waiting.get()) is not None:
        try:
            exporter.send(span)
        except Exception:
            _log.exception("a span could not be made")
    exporter.close()


def flush(**_: Any) -> None:
    """Send what waits and end the side thread; the next span starts it anew."""
    global _thread
    with _starting:
        thread, _thread = _thread, None
    if thread is None:
        return
    try:
        _waiting.put(None, timeout=_FLUSH_S)
    except queue.Full:
        return
    thread.join(_FLUSH_S)


def _after_fork() -> None:
    """A forked child has neither the thread nor a right to the parent's spans."""
    global _thread, _waiting, _starting
    _thread, _waiting, _starting = None, queue.Queue(_WAITING_SPANS), threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
