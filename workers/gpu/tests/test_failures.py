"""What becomes of a task whose inference or device failed, and what its client is told."""

from dataclasses import replace

from fixtures.fleet import submit
from generation.catalogue.models import ImageModel
from generation.queue.values import BatchKey, Release
from generation.queue.worker import Claimed
from generation.tasks import states
from generation.tasks.models import Task
from generation.tasks.reasons import Code
from workers.gpu import task_claims
from workers.gpu.outcomes import End, Outcome
from workers.gpu.settlement import settle_row

WORKER = "gpu1-a"


def claimed(task, *, alone=False):
    key = replace(BatchKey.parse(task.batch_key), alone=str(task.id) if alone else "")
    return Claimed(str(task.id), task.priority, key, 1, "{}")


def lose_device(task_id, *, alone):
    """What its entry becomes, and its row, after the device failed under it."""
    (running,) = task_claims.claim_rows([claimed(Task.objects.get(pk=task_id), alone=alone)], WORKER).running
    lost = Outcome(End.DEVICE_LOST, RuntimeError("gone"))
    release = settle_row(running.claimed, running.task, lost, WORKER)
    return release, Task.objects.get(pk=task_id)


def test_a_lost_device_is_not_blamed_on_the_task_that_ran_alone_on_it(user):
    (task_id,) = submit(user)
    assert [lose_device(task_id, alone=alone)[0] for alone in (False, True)] == [Release.ALONE, Release.ALONE]
    (running,) = task_claims.claim_rows([claimed(Task.objects.get(pk=task_id), alone=True)], WORKER).running
    assert running.task.attempt == 3, "both losses count as attempts, and there is one left"
    assert states.mark_generated(task_id, worker=WORKER, attempt=3)


def test_a_task_that_loses_a_second_device_alone_fails(user):
    (task_id,) = submit(user)
    assert lose_device(task_id, alone=True)[0] is Release.ALONE
    release, task = lose_device(task_id, alone=True)
    assert (release, task.status, task.error_code) == (Release.ENDED, "failed", "worker_crashed")
    assert "twice while it ran alone" in task.error_message
    assert [entry["reason"] for entry in task.history if entry.get("code") == Code.DEVICE_LOST_ALONE] == [
        "lost its device while it ran alone: the device or the engine failed: gone"
    ]


def test_the_picture_of_a_fallback_model_says_so_and_why(user):
    spare = ImageModel.objects.create(name="spare", title="Spare", family="sd15", source="spare", kinds=["text2img"])
    (task_id,) = submit(user)
    ImageModel.objects.filter(name="mini").update(fallback=spare)
    for _ in range(2):
        (running,) = task_claims.claim_rows([claimed(Task.objects.get(pk=task_id))], WORKER).running
        assert running.warnings == []
        failed = Outcome(End.FAILED, OSError("weights are gone"))
        settle_row(running.claimed, running.task, failed, WORKER)
    (running,) = task_claims.claim_rows([claimed(Task.objects.get(pk=task_id))], WORKER).running
    assert running.samples[0].model == "spare@1"
    (warning,) = running.warnings
    assert warning.startswith("made by model spare, because the one asked for failed: ")
    assert "weights are gone" in warning
    states.mark_generated(task_id, worker=WORKER, attempt=running.task.attempt, warnings=running.warnings)
    assert Task.objects.get(pk=task_id).warnings == [warning]
