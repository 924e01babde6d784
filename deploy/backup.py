"""Dumps and restores the database with pg_dump and pg_restore.

    make backup TO=/backups/imagegenx.dump       while the product runs: a consistent copy
    make restore FROM=/backups/imagegenx.dump    into the database of the running product, in one transaction

The database is the one of DATABASE_URL, else that of the product running in VAR_DIR. The password travels in the
environment, never on a command line.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from deploy.binaries import postgres_install
from deploy.manage import running_environment
from deploy.processes import DeployError
from deploy.product import ROOT


def connection(database_url: str) -> dict[str, str]:
    """The libpq environment variables of a database URL."""
    parts = urlsplit(database_url)
    found = {
        "PGHOST": parts.hostname,
        "PGPORT": str(parts.port or 5432),
        "PGUSER": parts.username,
        "PGPASSWORD": parts.password,
        "PGDATABASE": parts.path.lstrip("/"),
    }
    return {name: unquote(value) for name, value in found.items() if value}


def save(database_url: str, target: Path) -> None:
    """Write a compressed dump to `target` atomically, readable by its owner only."""
    draft = target.with_name(target.name + ".part")
    draft.touch(mode=0o600)
    try:
        _run(database_url, "pg_dump", "--format=custom", f"--file={draft}")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def restore(database_url: str, source: Path) -> None:
    """Replace the content of the database by the dump in `source`, in one transaction."""
    if not source.is_file():
        raise DeployError(f"{source} is not a file.")
    _run(
        database_url,
        "pg_restore",
        "--clean",
        "--if-exists",
        "--no-owner",
        "--single-transaction",
        f"--dbname={connection(database_url)['PGDATABASE']}",
        str(source),
    )


def _run(database_url: str, program: str, *arguments: str) -> None:
    env = os.environ | connection(database_url)
    path = program_path(program)
    result = subprocess.run([path, *arguments], env=env, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise DeployError(f"{program} failed: {result.stderr.strip().splitlines()[0] if result.stderr else '?'}")


def program_path(program: str) -> str:
    """The program from the wheel, else from the PATH."""
    try:
        return str(postgres_install() / "bin" / program)
    except DeployError:
        found = shutil.which(program)
        if found is None:
            raise
        return found


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `python -m deploy.backup`."""
    os.umask(0o077)  # the whole database is in what is written
    parser = argparse.ArgumentParser(prog="python -m deploy.backup", description="Save or restore the database.")
    parser.add_argument("action", choices=["save", "restore"])
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args(argv)
    try:
        var_dir = Path(os.environ.get("VAR_DIR") or ROOT / "var").resolve()
        url = os.environ.get("DATABASE_URL") or running_environment(var_dir)["DATABASE_URL"]
        (save if arguments.action == "save" else restore)(url, arguments.file)
    except DeployError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {arguments.file} can't be written: {error.strerror}.")


if __name__ == "__main__":
    main()
