"""Restores the embedded database to a point in time, from the backups of deploy/wal_backups.py.

    make restore-to AT=2026-11-25T16:30:00     the stopped product in VAR_DIR; without AT: the latest state
    python -m deploy.wal_restore --into DIR    a cluster in DIR/data, for your own server

1 combine the full copy and its incremental ones, 2 add the WAL since then, 3 run Postgres until it has replayed the WAL
up to that time, 4 replace the old cluster, which is kept beside it. Redis is moved away, too: it is rebuilt from the
database and must not contain later tasks.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from deploy import wal_catalogue as catalogue
from deploy.backup import program_path
from deploy.embedded_postgres import EmbeddedPostgres, PostgresConfig
from deploy.processes import DeployError, server_account, stop
from deploy.product import ROOT
from deploy.services import free_port
from deploy.state import DataFolder
from deploy.wal_backups import backup_folder
from deploy.wal_catalogue import Copy

PATIENCE_S = 3600.0  # to replay


def restore(root: Path, folder: Path, at: datetime | None) -> list[Copy]:
    """Restore a cluster into `folder`/data as of `at` (None: the latest state). Returns the copies that were used.

    Raises DeployError.
    """
    copies = catalogue.chain(catalogue.read(root), at)
    folder.mkdir(parents=True, mode=0o700)
    _combine([copy.folder(root) for copy in copies], folder / "data")
    _fetch_wal(root / copies[0].line / "wal", copies[-1].first_segment, folder / "wal")
    (folder / "data" / "recovery.signal").touch()
    account = server_account()
    if account is not None:
        subprocess.run(["chown", "-R", f"{account.uid}:{account.gid}", str(folder)], check=True)
    _replay(folder, at)
    shutil.rmtree(folder / "wal")
    complete = folder / "data" / ".complete"
    complete.touch()
    if account is not None:
        os.chown(complete, account.uid, account.gid)
    return copies


def _combine(parts: Sequence[Path], target: Path) -> None:
    argv = [program_path("pg_combinebackup"), *map(str, parts), f"--output={target}"]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise DeployError(f"pg_combinebackup: {' '.join(result.stderr.split())}")


def _fetch_wal(source: Path, first: str, target: Path) -> None:
    """Copy the segments from `first` on, also the partial one that was still being received."""
    target.mkdir()
    for segment in sorted(source.iterdir()):
        if segment.name[:24] >= first or segment.suffix == ".history":
            name = segment.name.removesuffix(".partial")
            if not (target / name).exists() or segment.suffix != ".partial":
                shutil.copyfile(segment, target / name)


def _replay(folder: Path, at: datetime | None) -> None:
    """Run Postgres until it has replayed the WAL and is promoted, then stop it."""
    postgres = EmbeddedPostgres(PostgresConfig(folder, free_port(), "", durable=True))
    settings = ["restore_command=cp ../wal/%f %p", "recovery_target_timeline=current"]
    if at is not None:
        settings += [f"recovery_target_time={at.isoformat()}", "recovery_target_action=promote"]
    log = folder / "replay.log"
    with log.open("wb") as output:
        process = postgres.start(output, settings)
    deadline = time.monotonic() + PATIENCE_S
    try:
        while not _is_promoted(folder / "data"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise DeployError(f"The replay failed: {_reason(log)}")
            time.sleep(0.1)
    finally:
        stop(process, postgres.stop_signal, patience_s=60)
        postgres.close()


def _is_promoted(data: Path) -> bool:
    argv = [program_path("pg_controldata"), str(data)]
    shown = subprocess.run(argv, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"}).stdout
    return not (data / "recovery.signal").exists() and "in production" in shown


def _reason(log: Path) -> str:
    lines = [line.partition("FATAL:")[2].strip() for line in log.read_text(errors="replace").splitlines()]
    found = next((line for line in lines if line), "see the end of " + str(log))
    if "before configured recovery target" in found:
        return "nothing was written after that time; leave AT out to get the latest state."
    return found


def into_product(root: Path, var_dir: Path, at: datetime | None) -> None:
    """Replace the cluster of the stopped product in `var_dir`."""
    folder = DataFolder(var_dir)
    folder.prepare()  # takes the lock: fails while the product runs
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    fresh = var_dir / "postgres.restoring"
    shutil.rmtree(fresh, ignore_errors=True)
    copies = restore(root, fresh, at)
    for name in ("postgres", "redis"):
        if (var_dir / name).exists():
            (var_dir / name).rename(var_dir / f"{name}.before-{stamp}")
    fresh.rename(var_dir / "postgres")
    (var_dir / "prepared.json").unlink(missing_ok=True)  # partitions and schema are prepared again
    print(f"Restored from {copies[-1].name}. The old cluster is {var_dir}/postgres.before-{stamp}; delete it later.")


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `python -m deploy.wal_restore`."""
    os.umask(0o077)  # the whole database is in what is written
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m deploy.wal_restore", description=__doc__, formatter_class=layout)
    parser.add_argument("--at", default="", help="point in time, UTC: 2026-11-25T16:30:00")
    parser.add_argument("--into", type=Path, help="restore into this folder instead of replacing the product's cluster")
    arguments = parser.parse_args(argv)
    try:
        at = catalogue.parse_time(arguments.at) if arguments.at else None
        if arguments.into:
            restore(backup_folder(), arguments.into.resolve(), at)
        else:
            into_product(backup_folder(), Path(os.environ.get("VAR_DIR") or ROOT / "var").resolve(), at)
    except DeployError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or ''} {error.strerror}")


if __name__ == "__main__":
    main()
