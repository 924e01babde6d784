"""How a process says that it can work: the file {VAR_DIR}/run/{PROCESS_NAME}.ready with its process id.

The run script waits for these files and container probes read them; the web process answers GET /readyz instead.
Without PROCESS_NAME in the environment (a shell, a test) nothing is written.
"""

import atexit
import os
from pathlib import Path
from typing import Any

from celery.signals import beat_init, worker_ready


def ready_file(name: str) -> Path:
    """Where the process `name` announces itself."""
    return Path(os.environ.get("VAR_DIR", "var")).resolve() / "run" / f"{name}.ready"


def announce(name: str | None = None) -> None:
    """Say that this process can work; taken back at its exit. The name comes from PROCESS_NAME unless given."""
    name = name or os.environ.get("PROCESS_NAME")
    if not name:
        return
    path = ready_file(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(f"{os.getpid()}\n")
    draft.replace(path)
    atexit.register(withdraw, name)


def withdraw(name: str | None = None) -> None:
    """Say that this process can't work any more. A successor's announcement stays."""
    name = name or os.environ.get("PROCESS_NAME")
    if not name:
        return
    path = ready_file(name)
    try:
        if path.read_text().strip() == str(os.getpid()):
            path.unlink()
    except FileNotFoundError:
        return


def announce_with_celery() -> None:
    """Let Celery workers and beat announce themselves once they are connected and consuming."""
    worker_ready.connect(_announce, weak=False, dispatch_uid="readiness")
    beat_init.connect(_announce, weak=False, dispatch_uid="readiness")


def _announce(**_: Any) -> None:
    announce()
