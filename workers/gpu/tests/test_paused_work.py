"""A flood of P0 over a worker that may keep little paused work: a real engine in a real process."""

import cv2
import numpy as np
import pytest

from fixtures.fleet import Fleet, doubled, moves, statuses, submit, wait_until
from generation.tasks.models import Task
from generation.tasks.reasons import Code


@pytest.fixture
def forgetful(processes, user, tmp_path):
    """A GPU worker with the shipped model, with memory for one paused task."""
    env = {"RAW_ROOT": str(tmp_path / "raw"), "TORCH_THREADS": "1", "GPU_PAUSED_GB": "0"}
    processes.only()
    fleet = Fleet(tmp_path, processes.env | env, "workers.gpu.main")
    fleet.start("gpu1")
    yield fleet
    fleet.stop(*fleet.processes)


def returns(task_id):
    return [entry for entry in moves(Task.objects.get(pk=task_id), "queued") if entry.get("code") == Code.PAUSED_MEMORY]


def picture(fleet, task_id):
    (path,) = (fleet.folder / "raw" / "raw" / str(task_id)).glob("*.png")
    return cv2.imread(str(path)).astype(np.int16)


TEXTS = ("red circle", "blue star", "green square")


def ordinary(user):
    return [task_id for text in TEXTS for task_id in submit(user, text, steps=20)]


def test_paused_work_beyond_its_memory_goes_back_and_ends_once_with_the_same_pictures(forgetful, user):
    tail = lambda: forgetful.tail("gpu1")  # noqa: E731
    undisturbed = ordinary(user)
    wait_until(lambda: statuses(undisturbed)["generated"] == 3, 60, tail)
    others = ordinary(user)
    wait_until(lambda: Task.objects.filter(pk__in=others, status="running").count() == 3, 30, tail)
    flood = submit(user, count=6, steps=12, priority=0, side=128)
    wait_until(lambda: statuses([*others, *flood])["generated"] == 9, 90, tail)
    assert [len(returns(task_id)) > 0 for task_id in others] == [False, True, True]
    assert {task.attempt for task in Task.objects.filter(pk__in=others)} == {1}, "it is not held against them"
    assert doubled(others) == []
    assert "no memory for more paused work" in forgetful.log("gpu1").read_text()
    ends = {task.pk: task.generated_at for task in Task.objects.filter(pk__in=[*others, *flood])}
    assert max(ends[task_id] for task_id in flood[:1]) < min(ends[task_id] for task_id in others)
    for before, after in zip(undisturbed, others, strict=True):
        assert np.abs(picture(forgetful, before) - picture(forgetful, after)).max() <= 1
