"""What the fault tests play on: Postgres and Redis that can be killed, and processes that are started again."""

import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.embedded_postgres import EmbeddedPostgres, PostgresConfig
from deploy.embedded_redis import EmbeddedRedis, RedisConfig
from deploy.processes import stop
from deploy.services import free_port, wait_ready
from workers.tests.faults.result import STEP_MS

if TYPE_CHECKING:
    from fixtures.fleet import Fleet

RESTART_AFTER_S = 0.5


class Server:
    """One of the two servers, with its faults. Only for the main thread."""

    def __init__(self, server: EmbeddedPostgres | EmbeddedRedis, folder: Path) -> None:
        self.server = server
        self.log = folder / f"{type(server).__name__}.log"
        server.initialise()
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = self.server.start(output)
        wait_ready(self.server, self.process, self.log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        stop(self.process, self.server.stop_signal, patience_s=10)

    def pause(self, seconds: float) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.process.pid, signal.SIGCONT)


class Stage:
    """Servers, environment, and the fleet once Django is set up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o711)
        self.redis_folder = folder / "redis"
        password = secrets.token_urlsafe(12)
        redis = RedisConfig(self.redis_folder, free_port(), password, durable=True)
        self.redis = Server(EmbeddedRedis(redis), folder)
        config = PostgresConfig(folder / "postgres", free_port(), password, durable=True)
        postgres = EmbeddedPostgres(config)
        self.postgres = Server(postgres, folder)
        postgres.create_database()
        self.web_port = free_port()
        self.env = {
            "REDIS_URL": self.redis.server.url,
            "DATABASE_URL": postgres.url,
            "SECRET_KEY": "only-for-tests-" + "x" * 40,
            "VAR_DIR": str(folder),
            "RAW_ROOT": str(folder / "raw"),
            "MEDIA_ROOT": str(folder / "media"),
            "PORT": str(self.web_port),
            "ALLOWED_HOSTS": "127.0.0.1",
            "STAND_IN_STEP": str(STEP_MS / 1000),
            "HANG_SECONDS": "2",
            "REDIS_TIMEOUT_S": "2",
            "LOG_LEVEL": "WARNING",
        }

    def empty_redis_file(self) -> None:
        """The server is down: what it would load at its start is lost."""
        for path in self.redis_folder.rglob("*"):
            if path.is_file():
                path.unlink()

    def close(self) -> None:
        for server in (self.postgres, self.redis):
            server.stop()
            server.server.close()


class Supervisor(threading.Thread):
    """Restarts dead processes after half a second."""

    def __init__(self, fleet: "Fleet") -> None:
        super().__init__(daemon=True)
        self.fleet = fleet
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.wait(0.05):
            for name, process in list(self.fleet.processes.items()):
                if process.poll() is not None and not self.stopping.wait(RESTART_AFTER_S):
                    self.fleet.start(name, wait=False)


def watchdog_of(pid: int) -> int:
    """The process id of a GPU worker's watchdog."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines()[1:]:
        child, parent, command = line.split(None, 2)
        if int(parent) == pid and "workers.gpu.watchdog" in command:
            return int(child)
    raise LookupError(f"process {pid} has no watchdog")


def blocked(folder: Path, seconds: float) -> Callable[[], None]:
    """A fault: nothing can be written below `folder` for some seconds, as on a full disk or with the store away."""

    def block() -> None:
        aside = folder.with_name(folder.name + ".aside")
        folder.mkdir(exist_ok=True)
        folder.rename(aside)
        folder.write_text("no room")
        time.sleep(seconds)
        folder.unlink()
        with suppress(FileExistsError):
            aside.rename(folder)

    return block
