"""The files of one installation in its data folder, VAR_DIR.

secrets.json   SECRET_KEY, passwords of the embedded servers, demo key and admin; created at the first start, mode 600
ready.json     addresses and process ids of the running product; exists only while it is ready, mode 600
prepared.json  the state of the code for which the database was prepared
log/           one file for each process
run/           lock, readiness files, schedule of beat, environment of the running processes, their counters
postgres/ redis/ media/ raw/ spool/   the data itself
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy.private_files import DATA_FOLDERS, make_private
from deploy.processes import DeployError

FREE_BYTES_NEEDED = 1 << 30
OWNER_VARIABLE = "IMAGEGENX_DATA"  # marks every process of an installation in its environment
STOPPING_PATIENCE_S = 60.0


class DataFolder:
    """The data folder of one installation, locked while the product runs."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.run = self.root / "run"
        self.log = self.root / "log"
        self.metrics = self.run / "metrics"
        self._lock: int | None = None

    def prepare(self) -> None:
        """Create the folders, check the free space and take the lock. Raises DeployError."""
        try:
            for folder in (self.root, self.run, self.log, self.metrics):
                folder.mkdir(parents=True, exist_ok=True)
            self._close()
            self._check_space()
            self._take_lock()
            for left in self.metrics.glob("*.db"):  # counters of the last run
                left.unlink()
        except OSError as error:
            raise DeployError(f"The data folder {self.root} can't be used: {error.strerror}.") from error

    def _close(self) -> None:
        """Other accounts read nothing here; those of the servers (processes.server_account) may pass through."""
        self.root.chmod(0o711 if os.geteuid() == 0 else 0o700)
        servers = {self.root / name for name in ("postgres-programs", "redis-programs")}
        make_private(entry for entry in self.root.iterdir() if entry not in servers and not entry.is_symlink())
        make_private(Path(os.environ[place]) for place in DATA_FOLDERS if os.environ.get(place))

    def _check_space(self) -> None:
        free = shutil.disk_usage(self.root).free
        if free < FREE_BYTES_NEEDED:
            raise DeployError(
                f"The disk of {self.root} has {free / 1e9:.1f} GB left, but {FREE_BYTES_NEEDED / 1e9:.1f} GB are "
                "needed: free some space, or choose another folder with VAR_DIR."
            )

    def _take_lock(self) -> None:
        """Hold the lock as long as this process or its forks live. Waits for an earlier run that is still stopping."""
        self._lock = os.open(self.run / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + STOPPING_PATIENCE_S
        announced = False
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(self._lock, 0)
                os.pwrite(self._lock, str(os.getpid()).encode(), 0)
                return
            owner = os.pread(self._lock, 20, 0).decode() or "?"
            if _is_alive(owner):
                raise DeployError(
                    f"ImageGenX already runs in {self.root} (process {owner}): stop it, or choose another folder and "
                    "port, for example VAR_DIR=var2 PORT=8100 make run."
                )
            if time.monotonic() > deadline:
                raise DeployError(f"The last run in {self.root} does not stop: end the processes that use it.")
            if not announced:
                print("The last run was killed and is still stopping; waiting for it ...", flush=True)
                announced = True
            time.sleep(0.1)

    def end_survivors(self) -> int:
        """SIGKILL every process left by a killed run of this folder; how many there were.

        Postgres hides its environment: see EmbeddedPostgres.survivor.
        """
        mark = f"{OWNER_VARIABLE}={self.root}".encode()
        ended = 0
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)
                    ended += 1
        return ended

    def secrets(self) -> dict[str, Any]:
        """The installation's secrets; missing ones are created."""
        stored: dict[str, Any] = read_json(self.root / "secrets.json")
        missing = [name for name in ("secret_key", "postgres_password", "redis_password") if name not in stored]
        if missing:
            stored |= {
                name: secrets.token_urlsafe(48) if name == "secret_key" else secrets.token_hex(24) for name in missing
            }
            self.keep_secrets(stored)
        return stored

    def keep_secrets(self, values: dict[str, Any]) -> None:
        write_private(self.root / "secrets.json", values)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; empty if there is no file."""
    try:
        value: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DeployError(f"{path} is damaged: restore it from a backup, or delete it to start again.") from error
    return value


def write_private(path: Path, value: Mapping[str, Any]) -> None:
    """Replace `path` atomically by `value` as JSON, readable by its owner only."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(dict(value), file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _is_alive(pid: str) -> bool:
    """Whether the process is running; a zombie is not."""
    try:
        status = Path(f"/proc/{int(pid)}/stat").read_text()
    except (OSError, ValueError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
