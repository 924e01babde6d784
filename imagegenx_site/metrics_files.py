"""The counters of the processes that share a folder of files (PROMETHEUS_MULTIPROC_DIR), added up, and an endpoint for
processes that serve no HTTP of their own.

A counter of a process that has ended stays, a gauge must not: what a dead worker held in memory is held no more.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client as prometheus
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

_log = logging.getLogger(__name__)


def folder() -> Path | None:
    """Where the processes write; None: each has its own counters only."""
    path = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
    return Path(path) if path else None


def forget_dead(files: Path) -> None:
    """Remove the gauges of processes that have ended, however they did."""
    for file in files.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            mark_process_dead(int(pid), str(files))


class _AllProcesses(Collector):
    """The folder as it is at each scrape."""

    def __init__(self, files: Path) -> None:
        self._files = files

    def collect(self) -> Iterator[Metric]:
        forget_dead(self._files)
        registry = prometheus.CollectorRegistry()
        MultiProcessCollector(registry, str(self._files))
        yield from registry.collect()


def registry() -> Any:
    """What this process can tell: of all that share its folder, or of itself."""
    files = folder()
    if files is None:
        return prometheus.REGISTRY
    found = prometheus.CollectorRegistry()
    found.register(_AllProcesses(files))
    return found


def serve(port: int) -> None:
    """GET /metrics at a port of its own, in a thread; 0: none. It has no token: a network policy guards it."""
    if not port:
        return
    try:
        prometheus.start_http_server(port, registry=registry())
    except OSError as error:
        _log.warning("no metrics at port %d: %s", port, error)
