"""The run script of a single machine: `make run`, or `python -m deploy.run`.

    1 check      configuration, port, disk, lock of the data folder, processes left by a killed run
    2 servers    Postgres and Redis, unless DATABASE_URL and REDIS_URL are set
    3 database   migrations, seed, partitions, demo account, where needed
    4 processes  started together; then wait until all are ready
    5 announce   ready.json and a few lines on the terminal
    6 supervise  restart processes that die, until Ctrl-C or SIGTERM; then stop in order

A forked main process does the work (deploy/processes.py), so that even `kill -9` of the run script leaves no process.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from deploy.embedded_postgres import EmbeddedPostgres, PostgresConfig
from deploy.embedded_redis import EmbeddedRedis, RedisConfig
from deploy.prepare import is_prepared
from deploy.processes import DeployError, Terminated, die_with_parent, guard, spawn
from deploy.product import ROOT, STOP_ORDER, ProductConfig, environment, programs, show_workers_in_flower
from deploy.services import free_port
from deploy.state import DataFolder, write_private
from deploy.supervisor import Program, Supervisor

READY_PATIENCE_S = 300.0
SERVER_PATIENCE_S = 60.0
ERROR_LINE = re.compile(r"[\w.]*(Error|Exception|Configured)\b: ")


class ProductRun:
    def __init__(self, config: ProductConfig, folder: DataFolder) -> None:
        self.config = config
        self.folder = folder
        self.supervisor = Supervisor(folder.log, report=_print, changed=self._on_change)
        self.servers: list[EmbeddedPostgres | EmbeddedRedis] = []
        self.front = os.getppid()
        self.is_ready = False

    def __call__(self) -> int:
        """Run the product until a stop signal. Returns 0."""
        began = time.monotonic()
        self.supervisor.handle_signals()
        try:
            env = self._start_servers()
            write_private(self.folder.run / "environment.json", env)
            self._prepare_database(env)
            everything = programs(self.config, self.folder, env)
            for program in everything:
                self.supervisor.start(program)
            self.supervisor.wait_ready([program.name for program in everything], READY_PATIENCE_S)
            self.is_ready = True
            self._write_ready()
            self._print_summary(time.monotonic() - began)
            login = self.folder.secrets()["demo"]["admin"]
            threading.Thread(target=show_workers_in_flower, args=(self.config.flower_url, login), daemon=True).start()
            self.supervisor.watch()
        except Terminated:
            _print("Stopping; press Ctrl-C again to stop without waiting for running work.")
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise DeployError(f"The disk of {self.folder.root} is full: free some space and start again.") from error
        finally:
            self._stop()
        return 0

    def _start_servers(self) -> dict[str, str]:
        """Start the embedded servers that are needed. Returns the environment for all other processes."""
        secrets = self.folder.secrets()
        database_url, redis_url = self.config.database_url, self.config.redis_url
        if not redis_url:
            settings = RedisConfig(self.folder.root / "redis", free_port(), secrets["redis_password"], durable=True)
            redis = EmbeddedRedis(settings)
            redis_url = redis.url
            self._start_server("redis", redis)
        if not database_url:
            place = self.folder.root / "postgres"
            postgres = EmbeddedPostgres(PostgresConfig(place, free_port(), secrets["postgres_password"], durable=True))
            _end(postgres.survivor())
            database_url = postgres.url
            self._start_server("postgres", postgres)
            self.supervisor.wait_ready(["postgres"], SERVER_PATIENCE_S)
            postgres.create_database()
        self.supervisor.wait_ready([name for name in ("redis",) if not self.config.redis_url], SERVER_PATIENCE_S)
        return environment(self.config, secrets["secret_key"], database_url, redis_url)

    def _start_server(self, name: str, server: EmbeddedPostgres | EmbeddedRedis) -> None:
        self.servers.append(server)
        server.initialise()
        self.supervisor.start(Program(name, server.start, lambda _: server.ready(), server.stop_signal, patience_s=30))

    def _prepare_database(self, env: dict[str, str]) -> None:
        if not self.config.database_url and is_prepared(self.folder):
            return
        errors = self.folder.log / "prepare.log"
        with errors.open("wb") as stderr:
            child = spawn([sys.executable, "-m", "deploy.prepare"], env=os.environ | env, cwd=ROOT, errors=stderr)
        if code := self.supervisor.wait_for(child):
            words = [line for line in errors.read_text(errors="replace").splitlines() if ERROR_LINE.match(line)]
            raise DeployError(f"The database could not be prepared: {words[-1] if words else code}; more in {errors}.")

    def _on_change(self) -> None:
        """A process was restarted. A full disk must not stop the others."""
        if not self.is_ready:
            return
        try:
            self._write_ready()
        except OSError as error:
            _print(f"  ready.json can't be written: {error.strerror}; it names a process that has ended")

    def _write_ready(self) -> None:
        ready: dict[str, Any] = {"url": self.config.url, "flower_url": self.config.flower_url}
        ready |= self.folder.secrets()["demo"]
        ready["pids"] = self.supervisor.pids() | {"run": self.front, "supervisor": os.getpid()}
        write_private(self.folder.root / "ready.json", ready)

    def _print_summary(self, seconds: float) -> None:
        demo = self.folder.secrets()["demo"]
        url = self.config.url
        _print(
            f"""
ImageGenX is ready ({seconds:.1f} s).
  Page     {url}/
  API      {url}/api/docs
  Admin    {url}/admin/   user {demo["admin"]["user"]}, password in {self.folder.root / "secrets.json"}
  Flower   {self.config.flower_url}   the same login
  Logs     {self.folder.log}
  Key      {demo["api_key"]}

Make a picture, in another terminal:
  {picture_command(url, demo["api_key"])}

Stop with Ctrl-C."""
        )

    def _stop(self) -> None:
        for path in (self.folder.root / "ready.json", self.folder.run / "environment.json"):
            path.unlink(missing_ok=True)
        self.supervisor.stop(STOP_ORDER)
        for server in self.servers:
            server.close()
        _print("Stopped.")


def picture_command(url: str, key: str) -> str:
    """A shell command that makes a picture and saves it as picture.webp, or prints what the server said instead."""
    body = '{"text": "a red circle on a blue background", "params": {"resolution": "256x256"}}'
    address = (
        'import json, sys; said = json.load(sys.stdin); print(said["data"].get("temp_url") or sys.exit(str(said)))'
    )
    return (
        f"curl -sS {url}/api/v1/image/generate -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' "
        f"-H 'Prefer: wait=60' -d '{body}' | python3 -c '{address}' | xargs -r curl -sS -o picture.webp"
    )


def _print(text: str) -> None:
    print(text, flush=True)


def _end(pid: int | None) -> None:
    """End a Postgres left by a killed run: it rolls back and ends its children."""
    if pid is None:
        return
    os.kill(pid, signal.SIGQUIT)
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.05)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m deploy.run`."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="make run", description=__doc__, formatter_class=layout)
    parser.add_argument("--stop-with-parent", action="store_true", help="stop when the starting process ends")
    arguments = parser.parse_args(argv)
    if arguments.stop_with_parent:
        die_with_parent(signal.SIGTERM)
    os.umask(0o077)  # of all processes: what they write is for this account only
    try:
        config = ProductConfig.from_environment()
        folder = DataFolder(config.var_dir)
        config.check_port()
        folder.prepare()
        if ended := folder.end_survivors():
            _print(f"  ended {ended} processes left by a killed run")
    except DeployError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _print(f"ImageGenX is starting; its data is in {folder.root}")
    return guard(lambda: ProductRun(config, folder)(), last=lambda: None, interrupt_stops=True)


if __name__ == "__main__":
    sys.exit(main())
