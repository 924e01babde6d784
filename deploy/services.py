"""Throw-away Postgres and Redis servers for one command.

    python -m deploy.services run -- pytest -q

starts the servers, runs the command with DATABASE_URL and REDIS_URL set, and returns its exit code. No process and no
file remains, not even after Ctrl-C, SIGTERM, or `kill -9` of any one of its processes.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded_postgres import EmbeddedPostgres, PostgresConfig
from deploy.embedded_redis import EmbeddedRedis, RedisConfig
from deploy.processes import DeployError, SpawnOptions, guard, spawn, stop

FOLDER_PREFIX = "imagegenx-services-"
START_PATIENCE_S = 60.0
COMMAND_PATIENCE_S = 15.0
_FIRST_PORT, _EPHEMERAL_PORT = 10_000, 32_768


@dataclass(frozen=True)
class ServiceUrls:
    """Addresses of the running servers, and a data folder that is deleted with them."""

    database_url: str
    redis_url: str
    var_dir: Path

    def environment(self) -> dict[str, str]:
        """This process's environment with the two addresses; SECRET_KEY and VAR_DIR have defaults."""
        defaults = {"SECRET_KEY": secrets.token_hex(32), "VAR_DIR": str(self.var_dir)}
        return defaults | os.environ | {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url}


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port of `host` that is not in use, below those that the kernel gives to connections that go out: one of
    these may be taken before the server that is to have the port has started.
    """
    while True:
        port = _FIRST_PORT + secrets.randbelow(_EPHEMERAL_PORT - _FIRST_PORT)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((host, port))
            return port


def wait_ready(server: EmbeddedPostgres | EmbeddedRedis, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server takes connections. Raises DeployError with the end of its log if it dies or is too slow."""
    deadline = time.monotonic() + START_PATIENCE_S
    while not server.ready():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
            raise DeployError(f"{type(server).__name__} did not start: {' '.join(tail) or 'it wrote no log'}")
        time.sleep(0.02)


@contextmanager
def throw_away_services(folder: Path) -> Iterator[ServiceUrls]:
    """Run both servers below `folder`, without durability, until the context ends."""
    postgres = EmbeddedPostgres(PostgresConfig(folder / "postgres", free_port(), secrets.token_hex(16), durable=False))
    redis = EmbeddedRedis(RedisConfig(folder / "redis", free_port(), secrets.token_hex(16), durable=False))
    started: list[tuple[EmbeddedPostgres | EmbeddedRedis, subprocess.Popen[bytes]]] = []
    try:
        for server, name in ((redis, "redis"), (postgres, "postgres")):
            server.initialise()
            log = folder / f"{name}.log"
            with log.open("wb") as output:
                started.append((server, server.start(output)))
        for server, process in started:
            wait_ready(server, process, folder / f"{'redis' if server is redis else 'postgres'}.log")
        postgres.create_database()
        yield ServiceUrls(postgres.url, redis.url, folder / "var")
    finally:
        for server, process in reversed(started):
            stop(process, server.stop_signal, patience_s=5)
        postgres.close()
        redis.close()


def run_command(command: Sequence[str], folder: Path) -> int:
    """Run `command` beside throw-away services; its exit code, or 128 + n if signal n ended it."""
    with throw_away_services(folder) as services:
        try:
            options = SpawnOptions(death_signal=signal.SIGKILL, own_session=False)
            process = spawn(command, env=services.environment(), stdin=None, options=options)
        except OSError as error:
            raise DeployError(f"{command[0]} can't be run: {error.strerror}.") from error
        try:
            code = process.wait()
        finally:
            stop(process, patience_s=COMMAND_PATIENCE_S)
    return code if code >= 0 else 128 - code


def remove_stale_folders() -> None:
    """Delete the folders of earlier runs that were killed with all their processes: their locks are free."""
    for folder in Path(tempfile.gettempdir()).glob(FOLDER_PREFIX + "*"):
        try:
            with (folder / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # in use, owned by another user, or just being created
        shutil.rmtree(folder, ignore_errors=True)


def locked_folder() -> tuple[Path, int]:
    """A new folder that the servers can enter, and the descriptor of its lock."""
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
    if os.geteuid() == 0:
        folder.chmod(0o711)  # the servers run as another account
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m deploy.services`."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.services", description="Real Postgres and Redis for one command."
    )
    run = parser.add_subparsers(dest="action", required=True).add_parser(
        "run", help="run CMD beside throw-away servers"
    )
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD", help="the command and its arguments")
    arguments = parser.parse_args(argv)
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        parser.error("no command after --")
    remove_stale_folders()
    folder, _lock = locked_folder()
    return guard(
        lambda: run_command(command, folder),
        last=lambda: shutil.rmtree(folder, ignore_errors=True),
        interrupt_stops=False,
    )


if __name__ == "__main__":
    sys.exit(main())
