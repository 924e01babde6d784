"""An embedded Postgres server in one folder.

`data/` is the cluster; other files are temporary. The server listens on 127.0.0.1 only, with a password (scram).

Started by root, the server runs as an unprivileged account that may not have access to the folder (a clone below /root,
a folder of mode 700). It then gets the folder as an open directory, `/proc/self/fd/N`, which needs no rights on the
parent folders.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

from deploy.binaries import POSTGRES_MAJOR, can_use, postgres_programs, remove_copies
from deploy.processes import DeployError, SpawnOptions, server_account, spawn

SUPERUSER = "imagegenx"
DATABASE = "imagegenx"
PLAIN_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": os.defpath}
# A throw-away server trades all durability for speed.
THROW_AWAY_SETTINGS = (
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "wal_level=minimal",
    "max_wal_senders=0",
)
# For incremental backups (deploy/wal_backups.py); an unused slot must not fill the disk.
DURABLE_SETTINGS = ("summarize_wal=on", "max_slot_wal_keep_size=4GB")


@dataclass(frozen=True)
class PostgresConfig:
    """`durable`: the data survive a crash of the machine."""

    folder: Path
    port: int
    password: str
    durable: bool


class EmbeddedPostgres:
    """`start` may be called again after the server died. The stop signal is SIGINT: roll back and close."""

    stop_signal = signal.SIGINT

    def __init__(self, config: PostgresConfig) -> None:
        self.config = config
        self.account = server_account()
        # Beside the data folder, which belongs to the server's account.
        self._copies = config.folder.with_name(config.folder.name + "-programs")
        self.programs = postgres_programs(self.account, self._copies)
        self._folder_fd: int | None = None

    @property
    def data(self) -> Path:
        return self.config.folder / "data"

    @property
    def url(self) -> str:
        """DATABASE_URL of the product's database."""
        return f"postgres://{SUPERUSER}:{quote(self.config.password, safe='')}@127.0.0.1:{self.config.port}/{DATABASE}"

    def initialise(self) -> None:
        """Create the cluster if there is none; an incomplete one, left by a hard stop, is created again."""
        version = self.data / "PG_VERSION"
        if version.exists() and (self.data / ".complete").exists():
            made_by = version.read_text().strip()
            if made_by != str(POSTGRES_MAJOR):
                raise DeployError(
                    f"{self.data} was made by Postgres {made_by}, but {POSTGRES_MAJOR} is installed: "
                    "dump and restore it (docs/operations.md)."
                )
            self._own(self.data / ".complete")  # one that an earlier version left stops a backup
            return
        shutil.rmtree(self.data, ignore_errors=True)
        self.config.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._own(self.config.folder)
        password_file = self.config.folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.config.password)
        self._own(password_file)
        try:
            self._initdb()
        finally:
            password_file.unlink(missing_ok=True)
        (self.data / ".complete").touch()
        self._own(self.data / ".complete")  # a backup is made by the server, which must read every file of the cluster

    def _initdb(self) -> None:
        folder = self._visible_folder()
        options = ["-U", SUPERUSER, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8"]
        options += [f"--pwfile={folder}/password"] + ([] if self.config.durable else ["--no-sync"])
        self._check([self.programs / "initdb", "-D", f"{folder}/data", *options], "initdb")

    def start(self, output: int | IO[bytes], further: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start the server with `further` settings (name=value). It takes connections when `ready()` is true."""
        settings = [
            "listen_addresses=127.0.0.1",
            f"port={self.config.port}",
            "unix_socket_directories=",
            "max_connections=200",
        ]
        settings += ["log_timezone=UTC", "timezone=UTC", "log_min_duration_statement=2000", "cluster_name=imagegenx"]
        settings += DURABLE_SETTINGS if self.config.durable else THROW_AWAY_SETTINGS
        settings += further
        argv: list[str | Path] = [self.programs / "postgres", "-D", f"{self._visible_folder()}/data"]
        for setting in settings:
            argv += ["-c", setting]
        return spawn(
            argv,
            env=PLAIN_ENVIRONMENT,
            cwd="/",
            output=output,
            options=self._spawn_options(self.stop_signal),
        )

    def ready(self) -> bool:
        check: list[str | Path] = [
            self.programs / "pg_isready",
            "-q",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.config.port),
            "-t",
            "2",
        ]
        return subprocess.run(check, env=PLAIN_ENVIRONMENT, check=False).returncode == 0

    def create_database(self) -> None:
        """Create the product's database if there is none; the server must be ready."""
        argv: list[str | Path] = [
            self.programs / "psql",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.config.port),
            "-U",
            SUPERUSER,
            "-d",
            "postgres",
            "-tAc",
        ]
        env = PLAIN_ENVIRONMENT | {"PGPASSWORD": self.config.password}
        found = subprocess.run(
            [*argv, f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        if found.stdout.strip() == "1":
            return
        made = subprocess.run(
            [*argv, f"CREATE DATABASE {DATABASE}"], env=env, capture_output=True, text=True, check=False
        )
        if made.returncode != 0:
            raise DeployError(f"Postgres did not create the database: {made.stderr.strip()}.")

    def survivor(self) -> int | None:
        """The process id of a server that a hard stop left running on this cluster."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except (OSError, ValueError, IndexError):
            return None
        return pid if name == "postgres" else None

    def close(self) -> None:
        """Release files and folders; the server must have ended."""
        remove_copies(self._copies)
        if self._folder_fd is not None:
            os.close(self._folder_fd)
            self._folder_fd = None

    def _visible_folder(self) -> str:
        """A path of the folder that the server's account can use."""
        if can_use(self.config.folder, self.account):
            return str(self.config.folder)
        if self._folder_fd is None:
            self._folder_fd = os.open(self.config.folder, os.O_RDONLY | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._folder_fd}"

    def _spawn_options(self, death_signal: int) -> SpawnOptions:
        pass_fds = () if self._folder_fd is None else (self._folder_fd,)
        return SpawnOptions(self.account, death_signal, pass_fds=pass_fds)

    def _own(self, path: Path) -> None:
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)

    def _check(self, argv: list[str | Path], what: str) -> None:
        """Run a program as the server's account; its last line of output becomes the error."""
        log = self.config.folder / f"{what}.log"
        with log.open("wb") as output:
            options = self._spawn_options(signal.SIGTERM)
            code = spawn(argv, env=PLAIN_ENVIRONMENT, cwd="/", output=output, options=options).wait()
        text = log.read_text(errors="replace").strip()
        with suppress(OSError):
            log.unlink()
        if code != 0:
            raise DeployError(f"{what} of Postgres failed: {text.splitlines()[-1] if text else f'exit code {code}'}")
