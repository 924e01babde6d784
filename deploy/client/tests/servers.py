"""The program as a process, workers that finish tasks, and a server that does harm."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from django.db import connection
from fixtures.rows import finish, process_pictures
from generation.accounts.models import User
from generation.tasks import states
from generation.tasks.models import Status, Task

from tests.stand_in_api import StandInApi

PACKAGE = Path(__file__).resolve().parents[1]
PROGRAM = [sys.executable, "-m", "imagegenx"]


class Program:
    """The command line as its users run it: a process."""

    def __init__(self, folder: Path, url: str, key: str) -> None:
        self.folder = folder
        self.stderr = ""
        hidden = ("IMAGEGENX_URL", "IMAGEGENX_KEY", "DJANGO_SETTINGS_MODULE", "DATABASE_URL", "REDIS_URL")
        rest = {name: value for name, value in os.environ.items() if name not in hidden}
        places = {"PYTHONPATH": str(PACKAGE), "XDG_CONFIG_HOME": str(folder / "config"), "NO_PROXY": "*"}
        self.env = {**rest, **places, "COLUMNS": "200", "IMAGEGENX_URL": url, "IMAGEGENX_KEY": key}

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*PROGRAM, *args],
            cwd=self.folder,
            env={**self.env, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *args: str, stdin: str = "", code: int = 0, **env: str) -> str:
        """What it writes to stdout; it must end with `code`."""
        process = self.start(*args, **env)
        out, err = process.communicate(stdin, timeout=60)
        assert process.returncode == code, f"{args} ended with {process.returncode}\n{out}\n{err}"
        self.stderr = err
        return out

    def json(self, *args: str, code: int = 0) -> Any:
        return json.loads(self.run(*args, "--json", code=code))


@pytest.fixture
def key(key_of: Callable[..., str], owner: User) -> str:
    return key_of(owner)


@pytest.fixture
def program(live: str, key: str, working: None, tmp_path: Path) -> Program:
    """The program at the product's web process."""
    return Program(tmp_path, live, key)


@pytest.fixture
def working(live: str) -> Iterator[None]:
    """Finishes every task, as the workers do; texts that begin with `fail` fail, with `hold` wait."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.02):
            for task in Task.objects.filter(status=Status.QUEUED).exclude(text__startswith="hold"):
                if task.text.startswith("fail"):
                    states.fail(task.id, code="out_of_memory", message="The picture is too large for this GPU.")
                else:
                    with contextlib.suppress(ValueError):  # canceled a moment ago: nothing to claim
                        finish(task, task.params["num_images"])
            process_pictures()
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    done.set()
    thread.join()


class StandInServer:
    """`api` behind a port."""

    def __init__(self, api: StandInApi, server: uvicorn.Server) -> None:
        self.api, self._server = api, server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"


@pytest.fixture
def stand_in() -> Iterator[StandInServer]:
    """A server that speaks the API's protocol."""
    api = StandInApi()
    server = uvicorn.Server(uvicorn.Config(api, port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield StandInServer(api, server)
    server.should_exit = server.force_exit = True
    thread.join(20)


@pytest.fixture
def program_at_stand_in(stand_in: StandInServer, tmp_path: Path) -> Program:
    return Program(tmp_path, stand_in.url, "igx_abc_secret")
