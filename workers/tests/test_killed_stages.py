"""A CPU worker that is killed while it enlarges or cleans a picture: the task ends once, with a whole file."""

import base64
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from django.conf import settings
from django.test import Client
from PIL import Image as Pillow

from fixtures.fleet import Fleet, all_ended, moves, wait_until
from generation.accounts.models import ApiKey, Plan, Team, User
from generation.tasks.models import Image, Status, Task
from storage.store import get_store

LEASE_S = 5  # the shortest that the setting allows: a dead worker's task is free then


def noise(side: int) -> str:
    """A picture whose processing takes a while."""
    pixels = np.random.default_rng(7).integers(0, 255, (side, side, 3), np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture
def client(user: User) -> Client:
    user.team = Team.objects.create(name="shop", plan=Plan.objects.get(name="paid"))
    user.save()
    return Client(headers={"authorization": f"Bearer {ApiKey.make(user)[1]}"})


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "params", "scale"), [("upscale", {"scale": 4}, 4), ("background", {}, 1)])
def test_a_killed_worker_leaves_its_picture_to_another_and_it_is_made_once(
    processes: Fleet, client: Client, tmp_path: Path, kind: str, params: dict[str, int], scale: int
) -> None:
    side = 512 if kind == "upscale" else 2048
    stores = {"RAW_ROOT": str(tmp_path / "raw"), "MEDIA_ROOT": settings.MEDIA_ROOT}
    fleet = Fleet(tmp_path, processes.env | stores | {"STAGE_SECONDS": str(LEASE_S), "TORCH_THREADS": "1"})
    try:
        fleet.start("cpu1", "reconciler")
        body = json.dumps({"image": noise(side), "params": {**params, "format": "png"}})
        answer = client.post(f"/api/v1/image/{kind}", body, content_type="application/json")
        assert answer.status_code == 202, answer.content
        task = Task.objects.get()
        wait_until(lambda: Task.objects.get().stage_owner, 30)
        fleet.signal("cpu1")
        fleet.processes["cpu1"].wait(10)
        assert (Task.objects.get().status, Image.objects.count()) == (Status.GENERATED, 0), (
            "it was killed in the middle"
        )
        fleet.only("cpu2", "reconciler")
        wait_until(lambda: all_ended([task.id]), 90, lambda: fleet.tail("cpu2") + fleet.tail("reconciler"))
    finally:
        fleet.stop(*fleet.processes)
    task.refresh_from_db()
    assert (task.status, len(moves(task, "succeeded"))) == (Status.SUCCEEDED, 1), task.error_message
    picture = Image.objects.get()
    data = get_store("images").read(picture.key)
    assert hashlib.sha256(data).hexdigest() == picture.sha256
    assert np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB")).shape == (scale * side, scale * side, 3)
