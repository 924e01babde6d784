"""The run script with the whole product: started, killed, started again, stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
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
    """What other accounts could read or enter, in the folders that they could reach."""
    found = []
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in but]
        entries = [Path(path, name) for name in (*folders, *files)]
        found += [str(entry) for entry in entries if not entry.is_symlink() and entry.lstat().st_mode & 0o077]
    return found


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    """A fresh data folder; what still runs at the end is stopped."""
    made = Runs(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.terminate()
        made.process.wait(60)


@pytest.mark.timeout(1200)  # two starts of everything, on a machine that may be busy
def test_started_killed_started_again_and_stopped(runs: Runs) -> None:
    # 1 a first start: everything is ready, the secrets are private, web answers
    first_process = runs.start()
    ready = runs.wait_ready()
    assert set(ready["pids"]) >= PROCESSES
    assert ready["url"] == f"http://127.0.0.1:{runs.port}"
    assert ready["api_key"]
    assert ready["admin"]["password"]
    for name in ("ready.json", "secrets.json", "run/environment.json"):
        assert (runs.var_dir / name).stat().st_mode & 0o777 == 0o600, name
    assert open_entries(runs.var_dir, {"postgres-programs", "redis-programs"}) == []
    assert ready["admin"]["password"] not in runs.terminal.read_text()
    with urlopen(ready["url"] + "/readyz") as answer:
        assert answer.status == 200

    # 2 another start beside it is refused with one sentence, and disturbs nothing
    env = os.environ | {"VAR_DIR": str(runs.var_dir), "PORT": str(free_port())}
    second = subprocess.run([sys.executable, "-m", "deploy.run"], env=env, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert second.stderr.startswith("error: ImageGenX already runs in")
    assert first_process.poll() is None

    # 3 a hard kill of the run script leaves nothing behind
    first_process.kill()
    first_process.wait()
    runs.wait_until_gone()
    assert not (runs.var_dir / "ready.json").exists()

    # 4 the next start finds its data, prepares nothing, keeps the key
    began = time.monotonic()
    process = runs.start()
    again = runs.wait_ready()
    print(f"second start: {time.monotonic() - began:.1f} s")
    assert again["api_key"] == ready["api_key"]
    assert "schema" not in runs.terminal.read_text()

    # 5 a killed process comes back under another id, and ready.json says so
    os.kill(again["pids"]["reconciler"], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while runs.wait_ready()["pids"].get("reconciler") in (None, again["pids"]["reconciler"]):
        assert time.monotonic() < deadline
        time.sleep(0.1)

    # 6 SIGTERM stops everything
    process.terminate()
    assert process.wait(60) == 0
    assert not processes_with(str(runs.var_dir))
    assert not (runs.var_dir / "ready.json").exists()
