"""What becomes of a task whose inference or device failed, and what its client is told."""

from dataclasses import replace

import numpy as np
import pytest

from fixtures.fleet import submit
from generation.catalogue.models import ImageModel
from generation.queue.values import BatchKey, Release
from generation.queue.worker import Claimed
from generation.tasks import results, states
from generation.tasks.models import Task
from generation.tasks.reasons import Code
from generation.telemetry.models import Alert
from workers.engine.errors import ModelUnavailable
from workers.gpu import model_health, persistence, task_claims
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
        assert running.own_warnings == []
        failed = Outcome(End.FAILED, OSError("weights are gone"))
        settle_row(running.claimed, running.task, failed, WORKER)
    (running,) = task_claims.claim_rows([claimed(Task.objects.get(pk=task_id))], WORKER).running
    assert running.samples[0].model == "spare@1"
    (warning,) = running.own_warnings
    assert warning.startswith("made by model spare, because the one asked for failed: ")
    assert "weights are gone" in warning
    states.mark_generated(task_id, worker=WORKER, attempt=running.task.attempt, warnings=running.own_warnings)
    assert Task.objects.get(pk=task_id).warnings == [warning]


def run_of(task_id):
    (running,) = task_claims.claim_rows([claimed(Task.objects.get(pk=task_id))], WORKER).running
    return running


def test_a_model_that_cannot_be_loaded_is_the_operators_matter_and_no_path_reaches_the_customer(user):
    (task_id,) = submit(user)
    reason = "model mini@2 could not be loaded from /srv/own: [Errno 13] Permission denied: '/srv/own/unet'"
    for _ in range(2):
        running = run_of(task_id)
        settle_row(running.claimed, running.task, Outcome(End.FAILED, ModelUnavailable(reason)), WORKER)
    task = Task.objects.get(pk=task_id)
    assert task.error_message == "The model mini cannot be loaded; the operator has been told."
    assert "/srv" not in str(task.history)
    model = ImageModel.objects.get(name="mini")
    assert (model.loads, model.problem) == (False, reason)
    alert = Alert.objects.get(kind="model_failed", cleared_at=None)
    assert (alert.worker, alert.message) == ("mini", reason)


def test_a_picture_says_that_its_model_can_be_loaded_and_closes_the_alert(user, tmp_path):
    (task_id,) = submit(user)
    model = ImageModel.objects.get(name="mini")
    model_health.note_failed(model, ModelUnavailable("no such folder"))
    finish(run_of(task_id))
    model.refresh_from_db()
    assert model.loads is True
    assert not Alert.objects.filter(kind="model_failed", cleared_at=None).exists()


def finish(running):
    for index, _ in enumerate(running.samples):
        running.images[index] = np.zeros((8, 8, 3), np.float32)
    persistence.persist_pictures(running, WORKER)


def test_that_a_model_stood_in_is_no_part_of_the_picture_that_others_get(user, monkeypatch):
    """The kept picture is that of the model that made it, which others ask for by its name."""
    ImageModel.objects.create(name="spare", title="Spare", family="sd15", source="spare", kinds=["text2img"])
    ImageModel.objects.filter(name="mini").update(fallback=ImageModel.objects.get(name="spare"))
    (task_id,) = submit(user)
    Task.objects.filter(pk=task_id).update(params=Task.objects.get(pk=task_id).params | {"cache": True})
    for _ in range(2):
        running = run_of(task_id)
        settle_row(running.claimed, running.task, Outcome(End.FAILED, OSError("weights are gone")), WORKER)
    kept = []
    monkeypatch.setattr(results, "keep", lambda _task, _identity, result: kept.append(result))
    running = run_of(task_id)
    running.warnings.append("the prompt was cut")
    finish(running)
    assert [result.warnings for result in kept] == [("the prompt was cut",)]
    assert len(Task.objects.get(pk=task_id).warnings) == 2


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(13, "Permission denied", "/srv/models/own/unet"), "[Errno 13] Permission denied: '(a path)'"),
        (RuntimeError("cannot read ~/own/x.bin now"), "cannot read (a path) now"),
        (ValueError("1/2 of it, see https://example.com/a/b"), "1/2 of it, see https://example.com/a/b"),
        (RuntimeError(""), "RuntimeError"),
    ],
)
def test_what_a_customer_reads_names_no_folder_of_this_machine(error, text):
    assert model_health.for_customers(error, ImageModel(name="own")) == text
