"""An embedded Redis-compatible server (Valkey) on 127.0.0.1, with a password and its data in one folder."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from deploy.binaries import readable_copy, redis_program, remove_copies
from deploy.processes import SpawnOptions, server_account, spawn


@dataclass(frozen=True)
class RedisConfig:
    """`durable`: the data survive a restart."""

    folder: Path
    port: int
    password: str
    durable: bool


class EmbeddedRedis:
    """`start` may be called again after it died. The stop signal is SIGTERM: flush the file and end."""

    stop_signal = signal.SIGTERM

    def __init__(self, config: RedisConfig) -> None:
        self.config = config
        self.account = server_account()
        self._copies = config.folder.with_name(config.folder.name + "-programs")
        self.program = readable_copy(redis_program(), self.account, self._copies)

    @property
    def url(self) -> str:
        """REDIS_URL of database 0."""
        return f"redis://:{self.config.password}@127.0.0.1:{self.config.port}/0"

    def initialise(self) -> None:
        """Create the data folder, owned by the server's account."""
        self.config.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.account is not None:
            os.chown(self.config.folder, self.account.uid, self.account.gid)

    def start(self, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
        """Start the server. It takes commands when `ready()` is true.

        The settings go through stdin, so the password is neither in a file nor in the process list. The working
        directory is entered before the change of user, so the account needs no rights on the parent folders.
        """
        with tempfile.TemporaryFile() as settings:
            settings.write(self._settings().encode())
            settings.seek(0)
            return spawn(
                [self.program, "-"],
                env={"PATH": os.defpath},
                cwd=self.config.folder,
                output=output,
                stdin=settings.fileno(),
                options=SpawnOptions(self.account, self.stop_signal),
            )

    def ready(self) -> bool:
        """Whether the server answers PING now (it does not while it loads its file)."""
        try:
            with socket.create_connection(("127.0.0.1", self.config.port), timeout=2) as connection:
                connection.sendall(f"AUTH {self.config.password}\r\nPING\r\nQUIT\r\n".encode())
                answer = b"".join(iter(lambda: connection.recv(4096), b""))
        except OSError:
            return False
        return answer.startswith(b"+OK\r\n+PONG")

    def close(self) -> None:
        """Remove the copy of the program, if one was made."""
        remove_copies(self._copies)

    def _settings(self) -> str:
        lines = [
            "bind 127.0.0.1",
            f"port {self.config.port}",
            f"requirepass {self.config.password}",
            "maxmemory-policy noeviction",
            "list-max-listpack-size -4",  # 32 kB a node: the middle of a long queue is reached sooner
        ]
        lines += ['save ""', "set-proc-title no", "daemonize no"]
        lines += ["appendonly yes", "appendfsync everysec"] if self.config.durable else ["appendonly no"]
        return "\n".join(lines) + "\n"
