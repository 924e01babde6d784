"""Tasks without a model: their picture comes with the request, and the stages are all that is done to it."""

import io
from collections.abc import Callable
from datetime import timedelta

import cv2
import numpy as np
import pytest
from django.utils import timezone
from PIL import Image as Pillow

from generation.tasks.models import Image, Status, Task
from storage import keys
from storage.store import get_store
from workers.stages import notify, postprocess, upload

MakeTask = Callable[..., Task]


@pytest.fixture
def sent(make_task: MakeTask) -> Callable[..., Task]:
    """A task as it is submitted: a red disc on light grey, 96 x 64."""

    def make(block: dict, kind: str = "upscale", **changes: object) -> Task:
        task = make_task(
            Status.GENERATED, kind=kind, model=None, model_key="", batch_key="", width=96, height=64, **changes
        )
        picture = np.full((64, 96, 3), 235, np.uint8)
        cv2.circle(picture, (48, 32), 20, (0, 0, 255), -1)
        key = keys.input_key(task.id, "image", "a" * 64, "image/png")
        get_store("images").put(key, cv2.imencode(".png", picture)[1].tobytes(), "image/png")
        drawn = {"kind": kind, "steps": 1, "sampler": "", "width": 96, "height": 64, "image_key": key}
        Task.objects.filter(pk=task.pk).update(params={**task.params, **drawn, "postprocess": block})
        task.refresh_from_db()
        return task

    return make


def run_all(task: Task) -> Pillow.Image:
    for stage in (postprocess.postprocess, upload.upload, notify.notify):
        stage(str(task.id))
    task.refresh_from_db()
    assert task.status == Status.SUCCEEDED, task.history
    image = Image.objects.get(task=task)
    return Pillow.open(io.BytesIO(get_store("images").read(image.key)))


def test_a_picture_is_enlarged_and_says_nothing_of_a_model(sent: Callable[..., Task]) -> None:
    task = sent({"upscale": {"scale": 2, "late": False}, "format": "png"})
    made = run_all(task)
    assert made.size == (192, 128)
    red, green, _ = made.convert("RGB").getpixel((96, 64))  # type: ignore[misc]
    assert (red > 200, green < 60) == (True, True)
    assert "parameters" not in made.info
    assert "compositeWithTrainedAlgorithmicMedia" in str(made.info), "the mark of a generated picture is not lost"
    assert [entry["to"] for entry in task.history] == ["processed", "stored", "succeeded"]
    assert task.started_at is not None


def test_a_background_becomes_white(sent: Callable[..., Task]) -> None:
    made = run_all(sent({"white_background": True, "format": "png"}, "background"))
    assert (made.size, made.convert("RGB").getpixel((2, 2))) == ((96, 64), (255, 255, 255))


def test_a_worker_that_died_is_followed_by_another(sent: Callable[..., Task]) -> None:
    """Its lease runs out; the picture is still where it was."""
    task = sent({"upscale": {"scale": 2, "late": False}})
    gone = {"stage_owner": "cpu1:dead", "stage_until": timezone.now() + timedelta(seconds=60), "stage_attempts": 1}
    Task.objects.filter(pk=task.pk).update(**gone)
    postprocess.postprocess(str(task.id))
    task.refresh_from_db()
    assert task.status == Status.GENERATED, "somebody has it"
    Task.objects.filter(pk=task.pk).update(stage_until=timezone.now() - timedelta(seconds=1))
    assert run_all(task).size == (192, 128)


def test_a_picture_that_is_gone_costs_tries_and_then_the_task(sent: Callable[..., Task], settings) -> None:
    task = sent({"upscale": {"scale": 2, "late": False}})
    get_store("images").delete(task.parameters.image_key)
    settings.STAGE_MAX_ATTEMPTS = 2
    for _ in range(2):
        Task.objects.filter(pk=task.pk).update(stage_until=None, stage_owner="")
        postprocess.postprocess(str(task.id))
    task.refresh_from_db()
    assert (task.status, task.error_code) == (Status.FAILED, "postprocess_failed")


def test_a_cancel_between_two_tries_is_carried_out_by_the_next(sent: Callable[..., Task]) -> None:
    task = sent({"upscale": {"scale": 2, "late": False}}, started_at=timezone.now(), cancel_requested=True)
    postprocess.postprocess(str(task.id))
    task.refresh_from_db()
    assert task.status == Status.CANCELLED
    assert not Image.objects.filter(task=task).exists()
