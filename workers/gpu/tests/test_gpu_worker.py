"""Whole GPU workers as processes, with an engine that sleeps."""

import os
import signal
import time
from pathlib import Path

from fixtures.fleet import Fleet, all_ended, doubled, moves, statuses, submit, wait_until
from generation.catalogue.models import ImageModel
from generation.tasks import cancel, enlargement
from generation.tasks.models import Image, Task
from generation.telemetry import alerts
from generation.telemetry.models import Alert


def running(ids):
    return Task.objects.filter(pk__in=ids, status="running")


def test_tasks_become_generated_once_and_their_stages_are_sent(fleet, user):
    fleet.only("gpu1", "cpu1", "io1", "reconciler")
    ids = submit(user, count=12, steps=4)
    wait_until(lambda: all_ended(ids), 90, lambda: fleet.tail("cpu1") + fleet.tail("io1"))
    assert statuses(ids) == {"succeeded": 12}
    assert doubled(ids) == []
    assert all(task.attempt == 1 for task in Task.objects.filter(pk__in=ids))


def test_a_first_version_does_not_wait_for_the_enlargements_of_others(fleet, user):
    fleet.only("gpu1", "cpu1", "enlarge1", "io1")
    (large,) = submit(user, num_images=4, steps=4, postprocess={"upscale": {"scale": 4}})
    wait_until(lambda: all_ended([large]), 90, lambda: fleet.tail("cpu1") + fleet.tail("io1"))
    wait_until(lambda: Task.objects.get(pk=large).stage_attempts, 10, lambda: fleet.tail("enlarge1"))
    others = submit(user, count=2, steps=4)
    wait_until(lambda: all_ended(others), 30, lambda: fleet.tail("cpu1"))
    assert statuses(others) == {"succeeded": 2}
    assert enlargement.not_enlarged(Task.objects.get(pk=large), list(Image.objects.filter(task=large)))
    wait_until(lambda: set(widths(large)) == {1024}, 90, lambda: fleet.tail("enlarge1"))
    assert [os.getpriority(os.PRIO_PROCESS, child) - os.nice(0) for child in children(fleet, "enlarge1")] == [10]


def children(fleet, name):
    pid = fleet.processes[name].pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def widths(task_id):
    return Image.objects.filter(task=task_id).values_list("width", flat=True)


def test_a_task_with_many_pictures_ends_when_all_are_safe(fleet, user):
    fleet.only("gpu1")
    (task_id,) = submit(user, num_images=11, steps=4)
    wait_until(lambda: statuses([task_id])["generated"], 90, lambda: fleet.tail("gpu1"))
    assert len(list(Path(fleet.folder, "raw", "raw", str(task_id)).glob("*.png"))) == 11


def test_a_killed_workers_tasks_run_elsewhere_within_a_second_and_none_twice(fleet, user):
    fleet.only("gpu1", "gpu2")
    ids = submit(user, count=12, steps=60)
    wait_until(lambda: running(ids).count() == 12, 60)
    time.sleep(0.3)
    victims = list(running(ids).filter(worker__startswith="gpu1").values_list("id", flat=True))
    doomed, heir = ("gpu1", "gpu2") if len(victims) == 8 else ("gpu2", "gpu1")
    victims = list(running(ids).filter(worker__startswith=doomed).values_list("id", flat=True))
    fleet.signal(doomed, signal.SIGKILL)
    killed = time.monotonic()
    back = wait_until(lambda: running(victims).filter(worker__startswith=heir).exists(), 80)
    assert back - killed < 2  # about 0.06 s on an idle machine
    print(f"{len(victims)} tasks of the killed worker; the first runs elsewhere after {(back - killed) * 1000:.0f} ms")
    wait_until(lambda: statuses(ids)["generated"] == 12, 60, lambda: str(statuses(ids)) + fleet.tail(heir))
    print(f"all generated {time.monotonic() - killed:.1f} s after the kill")
    assert doubled(ids) == []


def test_a_stopped_worker_finishes_what_it_holds(fleet, user):
    fleet.only("gpu1")
    ids = submit(user, count=4, steps=20)
    wait_until(lambda: running(ids).count() == 4, 60)
    fleet.signal("gpu1", signal.SIGTERM)
    assert fleet.processes["gpu1"].wait(60) == 0
    assert statuses(ids) == {"generated": 4}


def test_what_a_stopped_worker_cannot_finish_in_time_goes_back_and_runs_elsewhere(fleet, user):
    fleet.only()
    fleet.start("gpu1", STOP_SECONDS="0.5")
    ids = submit(user, count=2, steps=60)
    wait_until(lambda: running(ids).count() == 2, 60)
    fleet.signal("gpu1", signal.SIGTERM)
    assert fleet.processes["gpu1"].wait(60) == 0
    tasks = Task.objects.filter(pk__in=ids)
    assert {(task.status, task.attempt, task.history[-1]["reason"], task.history[-1]["code"]) for task in tasks} == {
        ("queued", 0, "the worker was stopped", "stopped")
    }
    fleet.only("gpu2")
    wait_until(lambda: statuses(ids)["generated"] == 2, 60)
    assert doubled(ids) == []


def test_a_burst_that_a_full_worker_cannot_take_goes_to_the_idle_one(fleet, user):
    fleet.only("gpu2")
    first = submit(user, count=8, steps=10_000)
    wait_until(lambda: running(first).count() == 8, 60)
    fleet.only("gpu1", "gpu2")
    second = submit(user, count=4, steps=4)
    wait_until(lambda: statuses(second)["generated"] == 4, 60)
    starts = [moves(task, "running") for task in Task.objects.filter(pk__in=second)]
    assert {entry["worker"].partition("-")[0] for (entry,) in starts} == {"gpu1"}
    for task in Task.objects.filter(pk__in=first):
        cancel.cancel_task(task)
    wait_until(lambda: statuses(first)["cancelled"] == 8, 60)


def test_a_running_task_is_cancelled_within_a_step(fleet, user):
    fleet.only("gpu1")
    (task_id,) = submit(user, steps=100)
    wait_until(lambda: running([task_id]).exists(), 60)
    asked = time.monotonic()
    cancel.cancel_task(Task.objects.get(pk=task_id))
    took = wait_until(lambda: statuses([task_id])["cancelled"], 60) - asked
    print(f"cancelled after {took * 1000:.0f} ms at steps of 50 ms")
    assert took < 2


def test_p0_starts_within_a_step_and_the_paused_batch_is_finished(fleet, user):
    fleet.only("gpu1")
    ids = submit(user, count=8, steps=30)
    wait_until(lambda: running(ids).count() == 8, 60)
    time.sleep(0.3)
    (urgent,) = submit(user, steps=3, priority=0)
    sent = time.monotonic()
    took = wait_until(lambda: running([urgent]).exists(), 60) - sent
    print(f"P0 claimed after {took * 1000:.0f} ms at steps of 50 ms")
    assert took < 1.4  # the batch that runs would take 1.5 s more
    wait_until(lambda: statuses([urgent])["generated"], 60)
    wait_until(lambda: statuses(ids)["generated"] == 8, 60)


def test_a_failed_inference_is_tried_once_more_and_then_fails_with_its_reason(fleet, user):
    fleet.only("gpu1")
    (failing,) = submit(user, "please fail")
    (refused,) = submit(user, "please refuse")
    others = submit(user, count=4)
    wait_until(lambda: statuses([failing, refused])["failed"] == 2, 90, lambda: fleet.tail("gpu1"))
    wait_until(lambda: statuses(others)["generated"] == 4, 60)
    task = Task.objects.get(pk=failing)
    assert (task.error_code, task.error_message, task.attempt) == ("inference_failed", "asked to fail", 2)
    assert [(entry["reason"], entry["code"]) for entry in moves(task, "queued")[-1:]] == [
        ("inference failed: RuntimeError: asked to fail", "inference_failed")
    ]
    assert Task.objects.get(pk=refused).attempt == 1


def test_a_task_that_fails_twice_goes_to_the_fallback_model(fleet, user):
    mini = ImageModel.objects.get(name="mini")
    fields = {"family": mini.family, "source": mini.source, "kinds": mini.kinds}
    mini.fallback = ImageModel.objects.create(name="spare", title="Spare", **fields)
    mini.save()
    fleet.only("gpu1")
    (task_id,) = submit(user, "please fail")
    wait_until(lambda: statuses([task_id])["failed"], 90, lambda: fleet.tail("gpu1"))
    task = Task.objects.get(pk=task_id)
    assert task.model_key == "spare@1"
    assert task.attempt == 4
    back = [(entry["reason"], entry["code"], entry["model"]) for entry in moves(task, "queued")[1:2]]
    assert back == [("falls back to spare", "fell_back", "spare")]


def test_a_task_that_kills_its_worker_fails_alone_and_others_succeed(fleet, user):
    names = ["gpu1", "gpu2", "gpu3", "gpu4"]
    fleet.only(*names, "reconciler")
    others = submit(user, count=6)
    (poison,) = submit(user, "poison")
    wait_until(lambda: statuses([*others, poison])["generated"] == 6, 90, lambda: str(statuses([*others, poison])))
    wait_until(lambda: statuses([poison])["failed"], 80)
    assert Task.objects.get(pk=poison).error_code == "worker_crashed"
    assert [fleet.processes[name].poll() for name in names].count(None) == 1


def test_a_lost_device_takes_its_worker_out_and_its_tasks_run_elsewhere(fleet, user):
    fleet.only("gpu1")
    ids = submit(user, count=3, steps=50)
    wait_until(lambda: running(ids).count() == 3, 60)
    (culprit,) = submit(user, "device", steps=10)
    assert fleet.processes["gpu1"].wait(90) is not None
    alert = Alert.objects.get(worker="gpu1")
    assert (alert.kind, alert.cleared_at) == ("device_lost", None)
    assert alert.message == "the device or the engine failed: the device is gone"
    assert not alerts.health()[0]
    fleet.only("gpu2", "gpu3", "gpu4")
    wait_until(lambda: statuses(ids)["generated"] == 3, 90, lambda: "".join(map(fleet.tail, ("gpu2", "gpu3", "gpu4"))))
    wait_until(lambda: statuses([culprit])["failed"], 90)
    assert Task.objects.get(pk=culprit).error_code == "worker_crashed"
    assert doubled([*ids, culprit]) == []
    others = ("gpu2", "gpu3", "gpu4")
    wait_until(lambda: sum(map(fleet.alive, others)) == 1, 60)  # three attempts, each of which took a worker down
    fleet.only(*others)
    wait_until(lambda: alerts.clear_whole() or not Alert.objects.filter(cleared_at=None).exists(), 60)


def test_raw_pictures_that_cannot_be_kept_do_not_end_the_task(fleet, user):
    fleet.only("gpu1")
    blocked = fleet.folder / "raw"
    if blocked.exists():
        blocked.rename(fleet.folder / f"raw-{time.monotonic_ns()}")
    blocked.write_text("a file where the folder should be")
    (task_id,) = submit(user, steps=3)
    wait_until(lambda: "are not safe yet" in fleet.tail("gpu1"), 90, lambda: fleet.tail("gpu1"))
    assert statuses([task_id]) == {"running": 1}
    blocked.unlink()
    wait_until(lambda: statuses([task_id])["generated"], 60)


def test_the_real_engine_serves_tasks_in_the_same_way(processes, user, tmp_path):
    fleet = Fleet(
        tmp_path, processes.env | {"RAW_ROOT": str(tmp_path / "raw"), "TORCH_THREADS": "1"}, "workers.gpu.main"
    )
    try:
        processes.only()
        fleet.start("gpu1")
        ids = submit(user, count=3, steps=2) + submit(user, steps=3, num_images=2)
        wait_until(lambda: statuses(ids)["generated"] == 4, 120, lambda: fleet.tail("gpu1"))
        assert len(list(tmp_path.rglob("*.png"))) == 5
        assert doubled(ids) == []
    finally:
        fleet.stop(*fleet.processes)
