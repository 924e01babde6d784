"""Real worker processes over real services, for tests that kill them."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from django.utils import timezone

from deploy.commands import CommandConfig
from deploy.commands import command as product_command
from deploy.product import answers
from generation import services
from generation.models import TERMINAL, ImageModel, Task, User
from generation.parameters import Parameters
from generation.uuid7 import moment_of, uuid7

ROOT = Path(__file__).resolve().parent.parent.parent
WORKER = [
    sys.executable,
    "-m",
    "celery",
    "-A",
    "imagegenx_site",
    "worker",
    "--without-gossip",
    "--without-mingle",
    "-E",
]


def command(name: str, include: str, port: str) -> list[str]:
    """How a process is started, by the beginning of its name: gpu, cpu, late, io, reconciler, web (on `port`)."""
    if name.startswith("web"):
        return [sys.executable, "-m", *product_command("web", CommandConfig(port=int(port)))]
    if name.startswith("reconciler"):
        return [sys.executable, "-m", "workers.reconciler"]
    if name.startswith("gpu"):
        return [
            *WORKER,
            "-I",
            include,
            "-P",
            "threads",
            "-c",
            "32",
            "-Q",
            f"p0,p1,p2,p3,dq.{name}",
            "-n",
            f"{name}@test",
        ]
    kind = name.rstrip("0123456789")
    return [sys.executable, "-m", *product_command(f"{kind}-worker", CommandConfig(worker=name))]


class Fleet:
    """Processes by name; `env` names their services, and PORT where a web process is among them."""

    def __init__(self, folder: Path, env: dict[str, str], include: str = "workers.tests.stand_in") -> None:
        self.folder, self.include = folder, include
        self.env = os.environ | env | {"VAR_DIR": str(folder), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str, wait: bool = True, **env: str) -> None:
        for name in names:
            with self.log(name).open("ab") as output:
                self.processes[name] = subprocess.Popen(
                    command(name, self.include, self.env.get("PORT", "0")),
                    cwd=ROOT,
                    env=self.env | {"PROCESS_NAME": name} | env,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
        for name in names if wait else ():
            wait_until(partial(self.ready, name), 180, partial(self._why_not, name))

    def only(self, *names: str) -> None:
        """Exactly these processes run: others are stopped, missing and dead ones started."""
        self.stop(*(self.processes.keys() - set(names)))
        self.start(*(name for name in names if not self.alive(name)))

    def alive(self, name: str) -> bool:
        return name in self.processes and self.processes[name].poll() is None

    def _why_not(self, name: str) -> str:
        return f"{name} is not ready (exit code {self.processes[name].poll()}): {self.tail(name)}"

    def ready(self, name: str) -> bool:
        if name.startswith("web"):
            return answers(f"http://127.0.0.1:{self.env['PORT']}/readyz")
        marker = self.folder / "run" / f"{name}.ready"
        return marker.exists() and marker.read_text().strip() == str(self.processes[name].pid)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def tail(self, name: str) -> str:
        return self.log(name).read_text()[-3000:]

    def signal(self, name: str, number: int = signal.SIGKILL) -> None:
        self.processes[name].send_signal(number)

    def stop(self, *names: str) -> None:
        """Ends processes by name and waits for it."""
        stopped = [self.processes.pop(name) for name in names]
        for process in stopped:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 30
        for process in stopped:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def submit(user: User, text: str = "red circle", *, steps: int = 10, count: int = 1, **changes: Any) -> list[UUID]:
    """Rows and tickets, as the API makes them. Answers the ids."""
    model = ImageModel.objects.select_related("fallback").get(name=changes.pop("model", "mini"))
    side = changes.pop("side", 256)
    images = changes.pop("num_images", 1)
    postprocess = changes.pop("postprocess", {})
    seconds = changes.pop("queue_seconds", 300)
    ids = []
    for _ in range(count):
        what_is_drawn = ("text2img", text, "", side, side, steps, 4.0, "euler", 7)
        parameters = Parameters(*what_is_drawn, num_images=images, postprocess=postprocess)
        task_id = uuid7()
        created = moment_of(task_id)
        bound = {"model": model, "model_key": model.key, "batch_key": parameters.batch_key(model.key)}
        what = {"kind": "text2img", "text": text, "params": parameters.to_json(), "width": side, "height": side}
        when = {"created_at": created, "expires_at": created + timedelta(seconds=seconds)}
        task = Task(id=task_id, user=user, cost=parameters.cost, **bound, **what, **when, **changes)
        task.save(force_insert=True)
        services.enqueue(task)
        ids.append(task_id)
    return ids


def statuses(ids: Iterable[UUID]) -> Counter[str]:
    return Counter(Task.objects.filter(pk__in=list(ids)).values_list("status", flat=True))


def all_ended(ids: list[UUID]) -> bool:
    return Task.objects.filter(pk__in=ids, status__in=TERMINAL).count() == len(ids)


def moves(task: Task, to: str) -> list[dict[str, Any]]:
    """The entries of a row's history that went to one state."""
    return [entry for entry in task.history if entry.get("to") == to]


def doubled(ids: Iterable[UUID]) -> list[UUID]:
    """Tasks that came to an end, or to pictures, more than once."""
    ends = [str(state) for state in TERMINAL]
    rows = Task.objects.filter(pk__in=list(ids))
    return [
        task.pk for task in rows if sum(len(moves(task, end)) for end in ends) > 1 or len(moves(task, "generated")) > 1
    ]


def wait_until(
    condition: Callable[[], object], seconds: float, why: str | Callable[[], str] = "it did not happen in time"
) -> float:
    """Waits, and answers the monotonic time at which the condition was met."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, why() if callable(why) else why
        time.sleep(0.005)
    return time.monotonic()


def now_ms() -> int:
    return int(timezone.now().timestamp() * 1000)
