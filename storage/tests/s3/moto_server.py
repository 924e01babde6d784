"""A server that speaks S3 as Amazon does where Swift and Ceph do not: classes that must be restored before they are
read, replication. It is moto, in an environment of its own in MOTO_HOME (default: ~/.cache/imagegenx-moto).

It checks no signatures and keeps everything in memory.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from storage.tests.s3.swift import Server, free_ports, wait_for

REQUIREMENT = "moto[server,s3]==5.2.5"
_HOME = Path(os.environ.get("MOTO_HOME", Path.home() / ".cache" / "imagegenx-moto"))


class NotInstalled(Exception):
    """The environment cannot be made here; says why."""


def install() -> Path:
    """The server's program; makes the environment when it is not there. Raises NotInstalled."""
    program = _HOME / "bin" / "moto_server"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(_HOME)], check=True)
        pip = [str(_HOME / "bin" / "pip"), "install", "--quiet", REQUIREMENT]
        done = subprocess.run(pip, capture_output=True, text=True)
        if done.returncode:
            raise NotInstalled(f"{REQUIREMENT} cannot be installed: {done.stderr.strip()[-500:]}")
    return program


@contextmanager
def running(root: Path) -> Iterator[Server]:
    """A running server without objects, its log below `root`; stopped at the end. Raises NotInstalled."""
    program, (port,) = install(), free_ports(1)
    path = root / "moto.log"
    with open(path, "wb") as log:
        command = [str(program), "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(port, path, process)
        yield Server("moto", port, "key", "secret", "us-east-1")
    finally:
        process.terminate()
        process.wait(10)


def set_restores(server: Server, progression: dict[str, Any]) -> None:
    """How its restores go on: {"progression": "immediate"}, or "manual" with "times", the reads of an object that
    take it one state further (none, in progress, restored).
    """
    change = {"model_name": "s3::keyrestore", "transition": progression}
    httpx.post(f"{server.endpoint}/moto-api/state-manager/set-transition", json=change).raise_for_status()
