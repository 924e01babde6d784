"""A restore drill with the whole product: it makes pictures, is killed, and is restored from its backups.

make drill-restore

1 start the product with BACKUP_DIR, make pictures through the API, note the time
2 delete all pictures so far through the API, as by mistake; make more; kill everything at once
3 restore to the noted time: all earlier tasks exist, with pictures, and no newer ones
4 restore the latest state: how many seconds of acknowledged work are missing (goal: at most 60)
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from deploy.processes import descendants
from deploy.product import ROOT
from deploy.services import free_port

START_S = 300.0
GOAL_S = 60.0
PICTURES = 3  # before the noted time, and as many after it


@dataclass(frozen=True)
class DrillClient:
    url: str
    key: str

    def call(self, method: str, path: str, body: Any = None, wait: int = 0) -> tuple[int, Any]:
        """Returns status and `data` of the answer."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", "Prefer": f"wait={wait}"}
        data = None if body is None else json.dumps(body).encode()
        try:
            with urlopen(Request(self.url + path, data, headers, method=method), timeout=60) as answer:
                return answer.status, json.load(answer)["data"]
        except HTTPError as error:
            return error.code, None

    def draw(self, seed: int) -> str:
        """Generate a picture; the id of its task."""
        params = {"resolution": "256x256", "steps": 1, "seed": seed}
        status, task = self.call("POST", "/api/v1/image/generate", {"text": "a red circle", "params": params}, wait=50)
        if status != 200 or task["status"] != "succeeded":
            raise SystemExit(f"drill: no picture was made: {status} {task}")
        return str(task["task_id"])

    def known(self, tasks: Sequence[str]) -> set[str]:
        """Those of the tasks that exist and have succeeded."""
        answers = {task: self.call("GET", f"/api/v1/image/task/{task}") for task in tasks}
        return {task for task, (status, body) in answers.items() if status == 200 and body["status"] == "succeeded"}


@contextmanager
def product(folder: Path, backups: Path | None) -> Iterator[tuple[DrillClient, subprocess.Popen[bytes]]]:
    """Run the product in `folder`; at the end it is killed with all its processes."""
    hidden = {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "BACKUP_DIR"}
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    env |= {"VAR_DIR": str(folder), "PORT": str(free_port()), "FLOWER_PORT": str(free_port())}
    env |= {"BACKUP_DIR": str(backups)} if backups else {}
    log = folder.with_suffix(".log")
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.run"], cwd=ROOT, env=env, stdout=output, stderr=output
        )
    deadline = time.monotonic() + START_S
    while not (folder / "ready.json").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"drill: the product did not start: {log.read_text()[-1500:]}")
        time.sleep(0.2)
    ready = json.loads((folder / "ready.json").read_text())
    try:
        yield DrillClient(ready["url"], ready["api_key"]), process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill all processes at once, as when the machine fails."""
    for pid in [process.pid, *descendants(process.pid)]:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue
    process.wait()
    time.sleep(2)  # for processes that the kernel ends with their parent


def restored(folder: Path, backups: Path, copy: Path, at: datetime | None) -> None:
    """Copy the data folder and restore its database."""
    shutil.copytree(
        folder, copy, ignore=shutil.ignore_patterns("postgres", "redis", "run", "ready.json"), symlinks=True
    )
    argv = [sys.executable, "-m", "deploy.wal_restore", *(["--at", at.isoformat()] if at else [])]
    subprocess.run(argv, cwd=ROOT, env=os.environ | {"VAR_DIR": str(copy), "BACKUP_DIR": str(backups)}, check=True)


def wait_for_copy(backups: Path) -> None:
    """Return when the first full copy is complete."""
    deadline = time.monotonic() + START_S
    while not list(backups.glob("*/base/*.json")):
        if time.monotonic() > deadline:
            raise SystemExit("drill: no copy was made.")
        time.sleep(0.2)


def drill(place: Path) -> bool:
    """Whether everything was restored."""
    folder, backups = place / "var", place / "backups"
    folder.mkdir()
    with product(folder, backups) as (client, process):
        wait_for_copy(backups)
        before = [client.draw(seed) for seed in range(PICTURES)]
        moment = datetime.now(UTC)
        time.sleep(1)
        for task in before:
            client.call("DELETE", f"/api/v1/image/task/{task}")
        after = [(client.draw(100 + seed), time.monotonic()) for seed in range(PICTURES)]
        kill(process)
        died = time.monotonic()
    restored(folder, backups, place / "moment", moment)
    with product(place / "moment", None) as (client, _):
        back, newer = client.known(before), client.known([task for task, _ in after])
    print(f"to the moment: {len(back)} of {len(before)} tasks are back, {len(newer)} newer ones (0 expected)")
    restored(folder, backups, place / "end", None)
    with product(place / "end", None) as (client, _):
        kept, gone = client.known([task for task, _ in after]), client.known(before)
    lost = [died - at for task, at in after if task not in kept]
    print(f"to the end: {len(kept)} of {len(after)} tasks are back; lost: {max(lost, default=0.0):.1f} s of work")
    print(f"            {len(gone)} of the deleted tasks (0 expected)")
    return len(back) == len(before) and not newer and not gone and max(lost, default=0.0) <= GOAL_S


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="imagegenx-drill-") as temporary:
        sys.exit(0 if drill(Path(temporary)) else "drill: not everything was restored")
