"""The run script with the whole product: started, killed, started again, stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from deploy.services import free_port
from deploy.tests.test_services import processes_with

PROCESSES = {"web", "gpu-worker", "cpu-worker", "enlarge-worker", "io-worker", "webhook-worker", "reconciler", "beat"}
PROCESSES |= {"flower", "postgres", "redis"}


class Runs:
    """Runs of the product in one data folder, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.var_dir = folder / "var"
        self.terminal = folder / "terminal.log"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start the run script as a user would, without the services of the tests."""
        hidden = {"DATABASE_URL", "REDIS_URL", "SECRET_KEY"}
        env = {name: value for name, value in os.environ.items() if name not in hidden}
        env |= {"VAR_DIR": str(self.var_dir), "PORT": str(self.port), "FLOWER_PORT": str(free_port())}
        with self.terminal.open("wb") as output:
            self.process = subprocess.Popen([sys.executable, "-m", "deploy.run"], env=env, stdout=output, stderr=output)
        return self.process

    def wait_ready(self, patience_s: float = 360.0) -> dict[str, Any]:
        """Wait for ready.json and give its content."""
        path, deadline = self.var_dir / "ready.json", time.monotonic() + patience_s
        while not path.exists():
            assert self.process is not None
            assert self.process.poll() is None, self.terminal.read_text()
            assert time.monotonic() < deadline, self.terminal.read_text()
            time.sleep(0.1)
        content: dict[str, Any] = json.loads(path.read_text())
        return content

    def wait_until_gone(self, patience_s: float = 60.0) -> None:
        """Return when no process of this data folder is left."""
        deadline = time.monotonic() + patience_s
        while left := processes_with(str(self.var_dir)):
            assert time.monotonic() < deadline, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]
            time.sleep(0.1)


def open_entries(folder: Path, but: set[str]) -> list[str]:
    """What other accounts could read or enter, in the folders that they could reach: secrets.json, for one."""
    found = []
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in but]
        entries = [Path(path, name) for name in (*folders, *files)]
        found += [str(entry) for entry in entries if not entry.is_symlink() and entry.lstat().st_mode & 0o077]
    return found


@dataclass(frozen=True)
class FirstRun:
    """What was seen of a first start, before and after the run script was killed hard."""

    runs: Runs
    ready: dict[str, Any]
    readyz: int
    readable_by_others: list[str]
    terminal: str
    second_start: subprocess.CompletedProcess[str]
    outlived_it: bool
    ready_file_left: bool


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirstRun]:
    """A fresh data folder in which the product ran once. What still runs at the end is stopped."""
    runs = Runs(tmp_path_factory.mktemp("run"))
    try:
        yield _first_run(runs)
    finally:
        if runs.process is not None and runs.process.poll() is None:
            runs.process.terminate()
            runs.process.wait(60)


def _first_run(runs: Runs) -> FirstRun:
    process, ready = runs.start(), runs.wait_ready()
    readable = open_entries(runs.var_dir, {"postgres-programs", "redis-programs"})
    with urlopen(ready["url"] + "/readyz") as answer:
        status = answer.status
    env = os.environ | {"VAR_DIR": str(runs.var_dir), "PORT": str(free_port())}
    second = subprocess.run([sys.executable, "-m", "deploy.run"], env=env, capture_output=True, text=True, check=False)
    outlived = process.poll() is None
    process.kill()
    process.wait()
    runs.wait_until_gone()
    left = (runs.var_dir / "ready.json").exists()
    return FirstRun(runs, ready, status, readable, runs.terminal.read_text(), second, outlived, left)


def test_a_first_start_is_ready_and_keeps_its_secrets(killed: FirstRun) -> None:
    ready = killed.ready
    assert set(ready["pids"]) >= PROCESSES
    assert ready["url"] == f"http://127.0.0.1:{killed.runs.port}"
    assert ready["api_key"]
    assert ready["admin"]["password"]
    assert killed.readyz == 200
    assert killed.readable_by_others == []
    assert ready["admin"]["password"] not in killed.terminal


def test_another_start_beside_it_is_refused_and_disturbs_nothing(killed: FirstRun) -> None:
    assert killed.second_start.returncode == 1
    assert killed.second_start.stderr.startswith("error: ImageGenX already runs in")
    assert killed.outlived_it


def test_a_hard_kill_of_the_run_script_leaves_no_process_and_no_ready_file(killed: FirstRun) -> None:
    """That no process is left was waited for."""
    assert not killed.ready_file_left


def test_the_next_start_finds_its_data_replaces_a_killed_process_and_stops(killed: FirstRun) -> None:
    runs = killed.runs
    process = runs.start()
    again = runs.wait_ready()
    assert again["api_key"] == killed.ready["api_key"]
    assert "schema" not in runs.terminal.read_text()

    os.kill(again["pids"]["reconciler"], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while runs.wait_ready()["pids"].get("reconciler") in (None, again["pids"]["reconciler"]):
        assert time.monotonic() < deadline
        time.sleep(0.1)

    process.terminate()
    assert process.wait(60) == 0
    assert not processes_with(str(runs.var_dir))
    assert not (runs.var_dir / "ready.json").exists()
