"""docs/api.md is true: every block of it is run, in order, as a reader pastes them, against a web process."""

import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.db import connection

from fixtures.rows import finish, process_pictures
from generation.accounts.models import User
from generation.catalogue.models import ImageModel
from generation.tasks.models import Status, Task

ROOT = Path(django_settings.BASE_DIR)
GUIDE = ROOT / "docs" / "api.md"


@pytest.fixture
def worker(live: str) -> Iterator[None]:
    """Finishes the tasks of a red circle as workers do; all others wait."""
    stopped = threading.Event()

    def work() -> None:
        while not stopped.wait(0.05):
            for task in Task.objects.filter(status=Status.QUEUED, text="a red circle"):
                finish(task)
            process_pictures()
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stopped.set()
    thread.join()


@pytest.mark.django_db(transaction=True)
def test_every_block_of_the_guide_works(
    live: str,
    worker: None,
    able_model: ImageModel,
    owner: User,
    key_of: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "ready.json").write_text(json.dumps({"url": live, "api_key": key_of(owner)}))
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    known: dict[str, object] = {}
    ran = [run(language, code, known) for language, code in blocks(GUIDE.read_text("utf-8"))]
    assert ran.count("bash") >= 8
    assert ran.count("python") >= 10


def blocks(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(bash|python)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def run(language: str, code: str, known: dict[str, object]) -> str:
    """Run a block after those before it: with their variables and functions."""
    if language == "python":
        exec(compile(code, "docs/api.md", "exec"), known)
        return language
    keep = "{ declare -f; declare -p BASE KEY DONE TASK; } > shell 2> /dev/null || true"
    script = f"[ ! -e shell ] || . ./shell\nset -eu\n{code}\n{keep}"
    done = subprocess.run(["bash", "-c", script], env=os.environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{code}\n{done.stdout[-500:]}\n{done.stderr}"
    return language
