"""Continuous backups of Postgres with its own programs: every change is streamed, a full copy made each day, an
incremental one each hour.

    BACKUP_DIR=/backups make run                    beside the product, one more process
    python -m deploy.wal_backups keep               the same on its own, for DATABASE_URL
    python -m deploy.wal_backups list               the copies that can be restored
    make restore-to AT=2026-11-25T16:30:00          deploy/wal_restore.py

pg_receivewal holds a replication slot, so the server keeps WAL until it is received, and writes each change to the
folder at once, synced: with the database machine only changes in transit are lost. pg_basebackup --incremental needs
Postgres 17 or newer with summarize_wal on; if it fails, a full copy is made.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2

from deploy import wal_catalogue as catalogue
from deploy.backup import connection, program_path
from deploy.manage import running_environment
from deploy.processes import DeployError, Terminated, raise_terminated, spawn, stop
from deploy.product import ROOT
from deploy.wal_catalogue import BackupConfig, Copy

SLOT = "imagegenx_backup"
TICK_S = 1.0
RETRY_S = 60.0  # after a failed copy
ARRIVAL_S = 120.0  # until the WAL of a finished copy must have been received


class BackupRunner:
    """Streams the WAL of one server into a folder and makes the copies that are due."""

    def __init__(self, database_url: str, root: Path, config: BackupConfig) -> None:
        self.database_url = database_url
        self.root = root
        self.config = config
        self.receiver: subprocess.Popen[bytes] | None = None
        self._next_try = 0.0
        system, timeline = self._ask(
            "SELECT s.system_identifier, c.timeline_id FROM pg_control_system() s, pg_control_checkpoint() c"
        )
        self.timeline = int(timeline)
        self.line = f"{system}-{timeline}"
        (self.wal).mkdir(parents=True, exist_ok=True, mode=0o700)
        (root / self.line / "base").mkdir(exist_ok=True, mode=0o700)

    @property
    def wal(self) -> Path:
        """The folder of this timeline's segments."""
        return self.root / self.line / "wal"

    def run(self) -> None:
        """Tick until SIGTERM."""
        try:
            while True:
                self.tick()
                time.sleep(TICK_S)
        finally:
            self.close()

    def tick(self) -> None:
        """Restart a stream that ended; make the copy that is due, and remove outdated ones."""
        if self.receiver is None or self.receiver.poll() is not None:
            self._start_receiver()
        now = datetime.now(UTC)
        kind = catalogue.due(self._own(), now, self.config)
        if kind and time.monotonic() >= self._next_try:
            try:
                self.copy(kind)
            except DeployError as error:
                self._next_try = time.monotonic() + RETRY_S
                _print(f"the {kind} copy failed, again in {RETRY_S:.0f} s: {error}")
            self.clear(now)

    def close(self) -> None:
        """Stop the stream."""
        if self.receiver is not None:
            stop(self.receiver)

    def copy(self, kind: str) -> Copy:
        """Make a copy and wait until its WAL has been received. Raises DeployError."""
        own = self._own()
        parent = own[-1].name if kind == "incremental" and own else ""
        began = datetime.now(UTC)
        name = f"{began:%Y%m%dT%H%M%S}-{'incremental' if parent else 'full'}"
        draft = self.root / self.line / "base" / f".{name}"
        shutil.rmtree(draft, ignore_errors=True)
        try:
            self._base_backup(draft, parent)
        except DeployError as error:
            shutil.rmtree(draft, ignore_errors=True)
            if not parent:
                raise
            _print(f"no incremental copy, a full one instead: {error}")
            return self.copy("full")
        span = json.loads((draft / "backup_manifest").read_text())["WAL-Ranges"]
        self._await_wal(span[-1]["End-LSN"])
        segment_bytes = int(self._ask("SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'")[0])
        done = Copy(
            line=self.line,
            name=name,
            parent=parent,
            began=began,
            ended=datetime.now(UTC),
            first_segment=catalogue.segment_name(self.timeline, span[0]["Start-LSN"], segment_bytes),
        )
        draft.rename(done.folder(self.root))
        catalogue.mark_complete(self.root, done)
        _print(f"{name} is complete after {(done.ended - began).total_seconds():.1f} s")
        return done

    def _base_backup(self, target: Path, parent: str) -> None:
        argv = ["pg_basebackup", f"--pgdata={target}", "--checkpoint=fast", "--wal-method=none", "--no-password"]
        if parent:
            argv.append(f"--incremental={self.root / self.line / 'base' / parent / 'backup_manifest'}")
        self._run(*argv)

    def clear(self, now: datetime) -> None:
        """Remove outdated copies and segments, and copies left incomplete by a crash."""
        for copy in catalogue.outdated(catalogue.read(self.root), now, self.config):
            copy.folder(self.root).with_suffix(".json").unlink()  # first: a copy without it counts as incomplete
        complete = {copy.folder(self.root) for copy in catalogue.read(self.root)}
        for folder in self.root.glob("*/base/*"):
            if folder.is_dir() and folder not in complete:
                shutil.rmtree(folder)
        own = self._own()
        if own:
            oldest = min(copy.first_segment for copy in own)
            for segment in self.wal.iterdir():
                if segment.name[:24] < oldest and ".history" not in segment.name:
                    segment.unlink()
        for line in self.root.iterdir():
            if line.name != self.line and (line / "base").is_dir() and not any((line / "base").iterdir()):
                shutil.rmtree(line)

    def _start_receiver(self) -> None:
        if self.receiver is not None:
            _print(f"the stream ended with exit code {self.receiver.returncode}; it is restarted")
        self._run("pg_receivewal", f"--slot={SLOT}", "--create-slot", "--if-not-exists", "--no-password")
        argv = [program_path("pg_receivewal"), f"--directory={self.wal}", f"--slot={SLOT}", "--synchronous"]
        env = os.environ | connection(self.database_url)
        self.receiver = spawn([*argv, "--no-password", "--status-interval=1"], env=env, output=sys.stderr.buffer)

    def _await_wal(self, position: str) -> None:
        """Wait until the WAL up to `position` is received and synced. Raises DeployError."""
        deadline = time.monotonic() + ARRIVAL_S
        query = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'pg_receivewal' AND flush_lsn >= %s"
        while self._ask(query, position)[0] == 0:
            if self.receiver is None or self.receiver.poll() is not None:
                self._start_receiver()
            if time.monotonic() > deadline:
                raise DeployError(f"the stream has not reached {position} after {ARRIVAL_S:.0f} s.")
            time.sleep(0.1)

    def _own(self) -> list[Copy]:
        return [copy for copy in catalogue.read(self.root) if copy.line == self.line]

    def _ask(self, query: str, *values: object) -> Any:
        try:
            with closing(psycopg2.connect(self.database_url, connect_timeout=5)) as server, server.cursor() as cursor:
                cursor.execute(query, values)
                return cursor.fetchone()
        except psycopg2.Error as error:
            raise DeployError(f"Postgres does not answer: {str(error).strip().splitlines()[0]}") from error

    def _run(self, program: str, *arguments: str) -> None:
        env = os.environ | connection(self.database_url)
        argv = [program_path(program), *arguments]
        result = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise DeployError(f"{program}: {' '.join(result.stderr.split()) or result.returncode}")


def _print(text: str) -> None:
    print(f"backup: {text}", file=sys.stderr, flush=True)


def keep(database_url: str, root: Path) -> None:
    """Back up until SIGTERM."""
    import signal

    from imagegenx_site import readiness

    signal.signal(signal.SIGTERM, raise_terminated)
    days = float(os.environ.get("BACKUP_KEEP_DAYS") or 7)
    runner = BackupRunner(database_url, root, BackupConfig(keep=timedelta(days=days)))
    try:
        readiness.announce()
        runner.run()
    except Terminated:
        runner.close()


def show(root: Path) -> None:
    """Print one line per copy."""
    for copy in catalogue.read(root):
        print(f"{copy.ended:%Y-%m-%d %H:%M:%S} UTC  {copy.name}  line {copy.line}")


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `python -m deploy.wal_backups`."""
    os.umask(0o077)  # the whole database is in what is written
    parser = argparse.ArgumentParser(prog="python -m deploy.wal_backups", description=__doc__)
    parser.add_argument("action", choices=["keep", "list"])
    action = parser.parse_args(argv).action
    try:
        root = backup_folder()
        if action == "list":
            show(root)
            return
        var_dir = Path(os.environ.get("VAR_DIR") or ROOT / "var").resolve()
        keep(os.environ.get("DATABASE_URL") or running_environment(var_dir)["DATABASE_URL"], root)
    except DeployError as error:
        sys.exit(f"error: {error}")


def backup_folder() -> Path:
    """BACKUP_DIR. Raises DeployError without one."""
    if not os.environ.get("BACKUP_DIR"):
        raise DeployError("BACKUP_DIR is not set: name a folder, preferably on another disk or machine.")
    return Path(os.environ["BACKUP_DIR"]).resolve()


if __name__ == "__main__":
    main()
