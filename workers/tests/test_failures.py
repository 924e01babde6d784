"""What a client is told when another model makes the picture."""

from generation import lifecycle
from generation.models import ImageModel, Task
from workers import failures, handover
from workers.buffer import Claimed
from workers.tests.fleet import submit

WORKER = "gpu1-a"


def claimed(task):
    return Claimed(str(task.id), task.priority, task.batch_key, 1, "{}")


def test_the_picture_of_a_fallback_model_says_so_and_why(user):
    spare = ImageModel.objects.create(name="spare", title="Spare", family="sd15", source="spare", kinds=["text2img"])
    (task_id,) = submit(user)
    ImageModel.objects.filter(name="mini").update(fallback=spare)
    for _ in range(2):
        (held,) = handover.board([claimed(Task.objects.get(pk=task_id))], WORKER).held
        assert held.warnings == []
        failures.after_failure(held.task, WORKER, OSError("weights are gone"), retryable=True)
    (held,) = handover.board([claimed(Task.objects.get(pk=task_id))], WORKER).held
    assert held.samples[0].model == "spare@1"
    (told,) = held.warnings
    assert told.startswith("made by model spare, because the one asked for failed: ")
    assert "weights are gone" in told
    lifecycle.mark_generated(task_id, worker=WORKER, attempt=held.task.attempt, warnings=held.warnings)
    assert Task.objects.get(pk=task_id).warnings == [told]
