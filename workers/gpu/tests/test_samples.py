"""From a row to samples."""

from dataclasses import replace

from fixtures.fleet import submit
from generation.catalogue.kinds import engine_kind
from generation.catalogue.parameters import Parameters
from generation.tasks.models import Batch, Task
from workers.engine.requests import SampleId, TaskBatch
from workers.gpu.samples import samples_of


def test_a_control_picture_may_stand_beside_a_picture_and_its_mask():
    plain = Parameters("controlnet", "x", "", 256, 256, 4, 4.0, "euler", 7, control_key="c")
    assert engine_kind(plain) == "controlnet"
    assert engine_kind(replace(plain, image_key="i")) == "controlnet_img2img"
    assert engine_kind(replace(plain, image_key="i", mask_key="m")) == "controlnet_inpaint"
    assert engine_kind(replace(plain, kind="inpaint", image_key="i", mask_key="m")) == "inpaint"


def test_the_limit_of_a_batch_reaches_its_samples_and_no_limit_is_none(user):
    (task_id,) = submit(user)
    task = Task.objects.select_related("model").get(pk=task_id)
    assert samples_of(task, alone=False)[0].batch is None
    task.batch = Batch(user=user, size=3, batch_size=2)
    assert samples_of(task, alone=False)[0].batch == TaskBatch(str(task.batch.id), 2)
    task.batch.batch_size = 0
    assert samples_of(task, alone=False)[0].batch is None


def test_sixteen_pictures_are_sixteen_samples_with_seeds_that_follow(user):
    (task_id,) = submit(user, num_images=16)
    samples = samples_of(Task.objects.select_related("model").get(pk=task_id), alone=False)
    assert [sample.seed for sample in samples] == list(range(7, 23))
    assert [sample.sample_id for sample in samples] == [SampleId(str(task_id), index) for index in range(16)]
