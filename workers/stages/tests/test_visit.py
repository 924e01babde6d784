"""Stages that follow each other in one process, started by one message: each is the same stage as on its own."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from generation.tasks import stages, states
from generation.tasks.models import Image, Status, Task
from storage import raw
from storage.errors import StoreUnavailable
from storage.store import SpooledStore, get_store
from workers.stages import notify, postprocess, upload

MakeTask = Callable[..., Task]


@pytest.fixture(autouse=True)
def store_elsewhere() -> None:
    """Not here: the stores are folders."""


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, settings) -> None:
    stores = {name: dict(value) for name, value in settings.STORAGES.items()}
    for name in ("images", "raw"):
        location = {"location": str(tmp_path / name), "base_url": None}
        stores[name] = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": location}
    settings.STORAGES, settings.SPOOL_ROOT = stores, str(tmp_path / "spool")


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stages for which a message was sent."""
    sent: list[str] = []
    monkeypatch.setattr(stages, "_send", lambda stage, *_: sent.append(stage.name))
    monkeypatch.setattr(stages, "signature", lambda name, *_, **__: name)
    monkeypatch.setattr(stages, "chain", lambda *names: _Chain(sent, names))
    return sent


class _Chain:
    def __init__(self, sent: list[str], names: tuple[str, ...]) -> None:
        self.sent, self.names = sent, names

    def apply_async(self) -> None:
        self.sent.extend(self.names)


def generated(make: MakeTask, **fields: object) -> Task:
    task = make(Status.GENERATED, attempt=1, **fields)
    raw.write_raw(task.id, 0, task.attempt, cv2.imencode(".png", np.full((256, 256, 3), 90, np.uint8))[1].tobytes())
    return task


def now(task: Task) -> Task:
    return Task.objects.get(pk=task.pk)


def files(store: str) -> list[str]:
    return [found.key for found in get_store(store).list("")]


def test_one_message_takes_a_task_from_the_gpu_to_its_end(make_task: MakeTask, messages: list[str]) -> None:
    task = generated(make_task)
    stages.send_stages(task.id, task.priority)
    assert messages == ["postprocess"]
    postprocess.postprocess(str(task.id))
    assert [entry["to"] for entry in now(task).history] == ["processed", "stored", "succeeded"]
    assert (now(task).stage_owner, now(task).stage_until, now(task).stage_attempts) == ("", None, 0)
    assert (len(files("images")), files("raw")) == (2, [])
    assert messages == ["postprocess"]


def test_where_the_store_is_elsewhere_one_message_more_brings_upload_and_end(
    make_task: MakeTask, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "is_local", lambda _: False)
    task = generated(make_task)
    stages.send_stages(task.id, task.priority)
    assert messages == ["postprocess", "upload"]
    postprocess.postprocess(str(task.id))
    assert now(task).status == "processed"
    upload.upload(str(task.id))
    assert now(task).status == "succeeded"


def test_tasks_processed_together_all_come_to_their_end(make_task: MakeTask, messages: list[str]) -> None:
    tasks = [generated(make_task) for _ in range(3)]
    postprocess.postprocess(str(tasks[0].id))
    assert {now(task).status for task in tasks} == {"succeeded"}
    assert messages == []


def test_a_cancel_during_post_processing_ends_the_task_before_the_upload(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = generated(make_task)
    process = postprocess.process_pictures

    def cancelled_meanwhile(*arguments: Any) -> Iterator[object]:
        states.request_cancel(task.id)
        return process(*arguments)

    monkeypatch.setattr(postprocess, "process_pictures", cancelled_meanwhile)
    postprocess.postprocess(str(task.id))
    assert [entry["to"] for entry in now(task).history] == ["processed", "cancelled"]
    assert files("images") == []


def test_a_failed_upload_is_tried_again_by_itself_and_post_processing_is_not_repeated(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = generated(make_task)
    with monkeypatch.context() as patch:
        patch.setattr(SpooledStore, "take", _refuse)
        postprocess.postprocess(str(task.id))
    assert (now(task).status, now(task).stage_attempts, now(task).stage_owner) == ("processed", 1, "waiting")
    raw.delete_task(task.id)  # post-processing could not run again
    Task.objects.filter(pk=task.pk).update(stage_until=None, stage_owner="")
    upload.upload(str(task.id))
    assert now(task).status == "succeeded"


def _refuse(*_: object) -> None:
    raise StoreUnavailable("the disk is gone")


@pytest.mark.parametrize("after", ["processed", "stored"])
def test_a_process_killed_between_two_stages_leaves_a_lease_that_another_takes_when_it_runs_out(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    task = generated(make_task)
    next_stage = {"processed": "upload", "stored": "notify"}[after]
    module = {"upload": upload, "notify": notify}[next_stage]
    with monkeypatch.context() as patch:
        patch.setattr(module, "work", _die)
        with pytest.raises(KeyboardInterrupt):
            postprocess.postprocess(str(task.id))
    left = now(task)
    assert (left.status, left.stage_attempts) == (after, 1)
    assert left.stage_owner
    assert left.stage_until is not None
    getattr(module, next_stage)(str(task.id))
    assert now(task).status == after, "the lease holds"
    Task.objects.filter(pk=task.pk).update(stage_until="2020-01-01T00:00:00Z")
    getattr(module, next_stage)(str(task.id))
    assert now(task).status == "succeeded"


def _die(_: Task) -> None:
    raise KeyboardInterrupt


def test_an_upload_on_one_file_system_writes_no_byte_twice(make_task: MakeTask, monkeypatch, settings) -> None:
    task = generated(make_task)
    seen: list[int] = []
    clear = notify.clear_raw

    def clear_and_note(*arguments: Any, **options: Any) -> None:
        seen.extend(_inodes(settings))
        clear(*arguments, **options)

    monkeypatch.setattr(notify, "clear_raw", clear_and_note)
    postprocess.postprocess(str(task.id))
    image = Image.objects.get(task=task)
    stored = Path(settings.STORAGES["images"]["OPTIONS"]["location"], image.key)
    assert os.stat(stored).st_ino in seen, "the file in the store is the one that post-processing wrote"
    assert os.stat(stored).st_nlink == 1, "and its name in the raw store is gone"


def _inodes(settings) -> list[int]:
    folder = Path(settings.STORAGES["raw"]["OPTIONS"]["location"])
    return [path.stat().st_ino for path in folder.rglob("*") if path.is_file()]
