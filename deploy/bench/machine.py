"""The measured processes: web processes started by the benchmark, and its Postgres and Redis."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.services import free_port

HOST = "127.0.0.1"
_SERVERS = {"postgres": "postgres", "redis-server": "redis", "valkey-server": "redis"}


@dataclass(frozen=True)
class Cpu:
    """CPU seconds (user and system) of each kind of process since its start."""

    web: float
    postgres: float
    redis: float

    def __sub__(self, earlier: "Cpu") -> "Cpu":
        return Cpu(self.web - earlier.web, self.postgres - earlier.postgres, self.redis - earlier.redis)


class Web:
    """Web processes of the product on one port."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self._process = psutil.Process(process.pid)

    def cpu(self) -> Cpu:
        """CPU seconds of the web processes and of the servers of this run."""
        used = {"web": _used_by_tree(self._process), "postgres": 0.0, "redis": 0.0}
        for process in _servers():
            with contextlib.suppress(psutil.NoSuchProcess):
                used[_SERVERS[process.name()]] += _used(process)
        return Cpu(**used)

    def memory_mb(self) -> float:
        """Resident memory of all web processes."""
        return sum(process.memory_info().rss for process in _tree(self._process)) / 2**20


@contextlib.contextmanager
def web(processes: int, log: Path) -> Iterator[Web]:
    """Start web processes as the product does, with `log` as their log."""
    port = free_port(HOST)
    command = [sys.executable, "-m", "uvicorn", "imagegenx_site.asgi:application", "--port", str(port)]
    command += ["--no-access-log", "--log-level", "warning", "--timeout-graceful-shutdown", "5"]
    command += ["--workers", str(processes)] if processes > 1 else []
    with log.open("wb") as output:
        process = subprocess.Popen(command, env={**os.environ, "LOG_LEVEL": "WARNING"}, stdout=output, stderr=output)
    try:
        _wait_for(port, log)
        yield Web(port, process)
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        time.sleep(0.1)
    raise SystemExit(f"the web process did not start:\n{log.read_text()[-2000:]}")


def log_file() -> Path:
    """The log file of the web processes."""
    return Path(tempfile.mkstemp(prefix="bench-api-", suffix=".log")[1])


def _servers() -> list[psutil.Process]:
    """The Postgres and Redis that `python -m deploy.services run` has started for this run."""
    above = psutil.Process().parent()
    found = above.children(recursive=True) if above else []
    return [process for process in found if process.name() in _SERVERS]


def _tree(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _used_by_tree(process: psutil.Process) -> float:
    return sum(map(_used, _tree(process)))


def _used(process: psutil.Process) -> float:
    """CPU time; for the postmaster also that of closed connections."""
    times = process.cpu_times()
    mine = times.user + times.system
    return float(mine + (times.children_user + times.children_system if process.name() == "postgres" else 0))
