"""The processes of the product on one machine: configuration, environment, readiness, order of the stop."""

from __future__ import annotations

import base64
import errno
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.error import URLError
from urllib.request import Request, urlopen

from deploy.commands import CommandConfig, command, process_environment
from deploy.health import alive_file, silence
from deploy.processes import DeployError, spawn
from deploy.services import free_port
from deploy.state import OWNER_VARIABLE, DataFolder
from deploy.supervisor import Program

ROOT = Path(__file__).resolve().parent.parent
FLOWER_PORT = 5555
# First the sources of requests and jobs, then the workers, then Flower; the servers that all of them need stop last.
STOP_ORDER = (
    ("web", "beat"),
    ("gpu-worker", "cpu-worker", "enlarge-worker", "io-worker", "webhook-worker", "reconciler"),
    ("flower", "backup"),
)
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ProductConfig:
    """The user's environment variables. Empty `database_url` or `redis_url`: the embedded server."""

    host: str
    port: int
    var_dir: Path
    database_url: str
    redis_url: str
    web_workers: int
    flower_port: int

    @classmethod
    def from_environment(cls) -> ProductConfig:
        """Raises DeployError for a wrong variable."""
        return cls(
            host=os.environ.get("HOST", "127.0.0.1"),
            port=_port("PORT", 8000),
            var_dir=Path(os.environ.get("VAR_DIR") or ROOT / "var").resolve(),
            database_url=os.environ.get("DATABASE_URL", ""),
            redis_url=os.environ.get("REDIS_URL", ""),
            web_workers=_number("WEB_WORKERS", 1, 1, 256),
            flower_port=_port("FLOWER_PORT", 0)
            or (FLOWER_PORT if port_is_free("127.0.0.1", FLOWER_PORT) else free_port()),
        )

    @property
    def local_host(self) -> str:
        """The host by which this machine reaches the web process."""
        return "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host

    @property
    def url(self) -> str:
        """The web process's address on this machine."""
        host = f"[{self.local_host}]" if ":" in self.local_host else self.local_host
        return f"http://{host}:{self.port}"

    @property
    def flower_url(self) -> str:
        """Flower listens on this machine only."""
        return f"http://127.0.0.1:{self.flower_port}"

    def check_port(self) -> None:
        """Raises DeployError if the product's port is in use."""
        if not port_is_free(self.host, self.port):
            raise DeployError(
                f"Port {self.port} of {self.host} is taken: stop the program that uses it, or choose another port, "
                f"for example PORT={self.port + 100} make run."
            )


def port_is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except socket.gaierror as error:
            raise DeployError(f"HOST is {host!r}, which can't be resolved: {error.strerror}.") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise DeployError(f"The web process can't listen on port {port} of {host}: {error.strerror}.") from error
    return True


def environment(config: ProductConfig, secret_key: str, database_url: str, redis_url: str) -> dict[str, str]:
    """Added to the environment of all processes. Variables that the user has set take precedence over the defaults."""
    names = {config.host, socket.gethostname(), "localhost", "127.0.0.1", "[::1]"} - {"0.0.0.0", "::"}
    defaults = {
        "ALLOWED_HOSTS": ",".join(sorted(names)),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "SECRET_KEY": secret_key,
    }
    fixed = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "VAR_DIR": str(config.var_dir),
        "PROMETHEUS_MULTIPROC_DIR": str(config.var_dir / "run" / "metrics"),
        "PORT": str(config.port),
        "DJANGO_SETTINGS_MODULE": "imagegenx_site.settings",
        OWNER_VARIABLE: str(config.var_dir),
    }
    return {name: os.environ.get(name, value) for name, value in defaults.items()} | fixed


def programs(config: ProductConfig, folder: DataFolder, env: dict[str, str]) -> list[Program]:
    """All processes but the servers."""
    lines = CommandConfig(
        host=config.host,
        port=config.port,
        web_workers=config.web_workers,
        flower_port=config.flower_port,
        beat_schedule=folder.run / "beat-schedule",
    )
    admin = folder.secrets()["demo"]["admin"]
    flower_login = {"FLOWER_BASIC_AUTH": f"{admin['user']}:{admin['password']}"}  # its API can stop workers
    make = _ProgramFactory(folder, env, lines)
    backup = [make("backup", {})] if os.environ.get("BACKUP_DIR") else []
    return [
        *backup,
        make("gpu-worker", {"OMP_NUM_THREADS": _engine_threads()}, patience_s=30),
        make("web", {}, lambda _: answers(config.url + "/readyz"), patience_s=10),
        make("cpu-worker", {}),
        make("enlarge-worker", {}),
        make("io-worker", {}),
        make("webhook-worker", {}),
        make("reconciler", {}),
        make("beat", {}),
        make("flower", flower_login, lambda _: answers(config.flower_url + "/healthcheck"), patience_s=5),
    ]


class _ProgramFactory:
    """Makes a Program of a command line; it runs in the repository's root."""

    def __init__(self, folder: DataFolder, env: dict[str, str], lines: CommandConfig) -> None:
        self._folder = folder
        self._env = env
        self._lines = lines

    def __call__(
        self,
        name: str,
        extra: dict[str, str],
        ready: Callable[[int], bool] | None = None,
        patience_s: float = 20.0,
    ) -> Program:
        marker, alive = self._folder.run / f"{name}.ready", alive_file(self._folder.run, name)
        own = {key: value for key, value in extra.items() if key not in os.environ} | process_environment(name)

        def start(output: IO[bytes]) -> subprocess.Popen[bytes]:
            marker.unlink(missing_ok=True)
            alive.unlink(missing_ok=True)
            argv = [sys.executable, "-m", *command(name, self._lines)]
            env = dict(os.environ | self._env | own)
            if name == "flower":
                env.pop("PROMETHEUS_MULTIPROC_DIR", None)  # its series are its own
            return spawn(argv, env=env, cwd=ROOT, output=output)

        return Program(
            name,
            start,
            ready or (lambda pid: announced(marker, pid)),
            patience_s=patience_s,
            silence=lambda: silence(alive, time.time()),
        )


def announced(marker: Path, pid: int) -> bool:
    """Whether the process `pid` has written its readiness file (imagegenx_site/readiness.py)."""
    try:
        return marker.read_text().strip() == str(pid)
    except FileNotFoundError:
        return False


def answers(url: str) -> bool:
    """Whether a GET of `url` succeeds within two seconds."""
    try:
        with urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (URLError, OSError, ValueError):
        return False


def show_workers_in_flower(url: str, login: Mapping[str, str]) -> None:
    """Let Flower inspect the workers again: it does so only at its start, and lacks the queues of those started later.

    Does not raise: a page of Flower also inspects them.
    """
    pair = base64.b64encode(f"{login['user']}:{login['password']}".encode()).decode()
    request = Request(f"{url}/api/workers?refresh=1", headers={"Authorization": f"Basic {pair}"})
    try:
        with urlopen(request, timeout=30) as response:
            response.read()
    except (URLError, OSError) as error:
        print(f"  flower does not answer: {error}", flush=True)


def _engine_threads() -> str:
    """CPU threads of the engine: half the processors, as the other processes need the rest."""
    return str(max(1, (os.cpu_count() or 2) // 2)) if shutil.which("nvidia-smi") is None else "4"


def _port(name: str, default: int) -> int:
    return _number(name, default, 0, 65535)


def _number(name: str, default: int, low: int, high: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdigit() or not low <= int(text) <= high:
        raise DeployError(f"{name} is {text!r}; it may be a whole number from {low} to {high}.")
    return int(text)
