"""From the GPU to the end for an urgent task, while others wait for the same CPU worker: a real worker process, real
Postgres and Redis, stores on the local disk. The others are P2 tasks that ask for a 4x enlargement before delivery.

    one queue    the urgent tasks' messages in the queue of the others, behind them: as without classes
    classes      in the queue of their class
    nobody       without the others
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import cv2
import numpy as np
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone
from redis import Redis

from deploy.bench.queue.live import database_url
from fixtures.fleet import Fleet, wait_until
from generation.accounts.models import User
from generation.catalogue.models import ImageModel
from generation.catalogue.parameters import Parameters
from generation.tasks import partitions, stages
from generation.tasks.models import Status, Task
from imagegenx_site.ids import moment_of, uuid7
from storage import raw

URGENT: Final = 10  # tasks
EVERY_S: Final = 1.0  # between two of them
SIDE: Final = 256
ENLARGED, PLAIN = {"upscale": {"scale": 4, "late": False}}, dict[str, Any]()
PATIENCE_S: Final = 1800
WAYS: Final = {"one queue": 2, "classes": 0, "nobody": 0}  # -> the class of the urgent tasks' queue
_DISK: Final = "django.core.files.storage.FileSystemStorage"


class AfterGpu:
    """A CPU worker, and tasks that the GPU is done with."""

    def __init__(self, folder: Path) -> None:
        call_command("migrate", verbosity=0)
        call_command("seed", verbosity=0)
        partitions.ensure(datetime.now(UTC).date(), 2)
        options = {"location": str(folder / "raw"), "base_url": None}
        settings.STORAGES["raw"] = {"BACKEND": _DISK, "OPTIONS": options}
        self.redis = Redis.from_url(settings.REDIS_URL)
        self.redis.flushdb()
        env = {"DATABASE_URL": database_url(), "REDIS_URL": settings.REDIS_URL, "RAW_ROOT": str(folder / "raw")}
        self.fleet = Fleet(folder, env)
        self.user = User.objects.get_or_create(username="owner")[0]
        self.model = ImageModel.objects.get(name="mini")
        noise = np.random.default_rng(1).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
        self._picture = cv2.imencode(".png", cv2.GaussianBlur(noise, (5, 5), 0))[1].tobytes()

    def generated(self, priority: int, postprocess: dict[str, Any]) -> UUID:
        """A new task in that state; its message is not sent."""
        asked = Parameters("text2img", "red circle", "", SIDE, SIDE, 20, 4.0, "euler", 7, postprocess=postprocess)
        task_id = uuid7()
        created = moment_of(task_id)
        bound = {"model": self.model, "model_key": self.model.key, "batch_key": str(asked.batch_key(self.model.key))}
        what = {"kind": "text2img", "text": asked.text, "params": asked.to_json(), "width": SIDE, "height": SIDE}
        when = {"created_at": created, "expires_at": created + timedelta(hours=1), "generated_at": timezone.now()}
        raw.write_raw(task_id, 0, 1, self._picture)
        row = Task(id=task_id, user=self.user, priority=priority, status=Status.GENERATED, attempt=1)
        for name, value in (bound | what | when).items():
            setattr(row, name, value)
        row.save(force_insert=True)
        return task_id


def measure(others: int) -> dict[str, Any]:
    """s from the GPU to the end of URGENT tasks in each way; and until all tasks had ended."""
    with tempfile.TemporaryDirectory(prefix="imagegenx-after-gpu-") as name:
        place = AfterGpu(Path(name))
        try:
            place.fleet.start("cpu1")
            return {"others": others, "ways": [_way(place, way, 0 if way == "nobody" else others) for way in WAYS]}
        finally:
            place.fleet.stop(*place.fleet.processes)


def _way(place: AfterGpu, way: str, others: int) -> dict[str, Any]:
    waiting = [place.generated(2, ENLARGED) for _ in range(others)]
    begun = time.monotonic()
    for task_id in waiting:
        stages.send_stages(task_id, 2)
    if waiting:
        wait_until(_ended(waiting[:1]), PATIENCE_S)
    urgent = []
    for _ in range(URGENT):
        urgent.append(place.generated(0, PLAIN))
        stages.send_stages(urgent[-1], WAYS[way])
        time.sleep(EVERY_S)
    wait_until(_ended(urgent + waiting), PATIENCE_S, lambda: place.fleet.tail("cpu1"))
    took = time.monotonic() - begun
    rows = Task.objects.filter(pk__in=urgent)
    waits = sorted((row.finished_at - row.generated_at).total_seconds() for row in rows)  # type: ignore[operator]
    found = {"way": way, "median_s": round(statistics.median(waits), 3), "worst_s": round(waits[-1], 3)}
    found |= {"all_s": round(took, 1)} if waiting else {}
    print(found, flush=True)
    return found


def _ended(ids: list[UUID]) -> Callable[[], bool]:
    return lambda: Task.objects.filter(pk__in=ids, status=Status.SUCCEEDED).count() == len(ids)


def lines(found: dict[str, Any]) -> list[str]:
    """The part of the page."""
    head = (
        f"P0 tasks from the GPU to their end, one each {EVERY_S:.0f} s, beside {found['others']} P2 tasks that wait for"
        f" their 4x enlargement of {SIDE} pixels; one CPU worker with one process. `one queue`: first in, first out, as"
        " before the classes. What a P0 task still waits for is the enlargement that runs at the moment."
    )
    rows = [
        f"| {row['way']} | {row['median_s']:.2f} s | {row['worst_s']:.2f} s | {_seconds(row.get('all_s'))} |"
        for row in found["ways"]
    ]
    return [head, "", "| way | P0, median | P0, worst | until all had ended |", "|---|---|---|---|", *rows]


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} s"
