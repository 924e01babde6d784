"""Programs and files for the tests of what watches the product."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.monitoring import tools
from deploy.monitoring.files import Monitored, files
from deploy.monitoring.receivers import Receivers

ALL = os.environ.get("TEST_OPS") == "1"
Run = Callable[..., str]


def program(name: str) -> str:
    """With TEST_OPS=1 (make test-ops) it is fetched, and its absence a failure; else the test says what it needs."""
    found = tools.fetch(name) if ALL else tools.find(name)
    if found is None:
        needed = f"{name} is not on this machine; `make test-ops` fetches it"
        pytest.fail(needed) if ALL else pytest.skip(needed)
    return str(found)


@pytest.fixture
def run() -> Run:
    """Runs a program to its good end; its output."""

    def call(name: str, *args: str | Path, **options: object) -> str:
        command = [program(name), *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout + done.stderr)

    return call


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The files of an installation that calls three receivers, below a folder."""
    receivers = Receivers.from_environment(
        {
            "ALERT_CRITICAL_URLS": "http://127.0.0.1:9/phone, http://127.0.0.1:9/chat",
            "ALERT_WARNING_MAIL": "team@shop.example",
            "ALERT_SMTP": "mail.shop.example:587",
            "ALERT_MAIL_FROM": "imagegenx@shop.example",
        }
    )
    for path, text in files(Monitored(config=str(tmp_path), token_file=""), receivers).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path
