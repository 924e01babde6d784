"""Where a task goes when there are several workers: to one that has its model in memory, to one that has room."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings

from fixtures.fleet import submit, wait_until
from generation.catalogue.models import ImageModel
from generation.queue.values import BatchKey
from generation.queue.worker import WorkerQueue, WorkerQueueConfig
from imagegenx_site import redis_clients
from workers.gpu.intake import Intake

A, B = BatchKey("a@1", 256, 256), BatchKey("b@1", 256, 256)


@pytest.fixture
def workers(make_worker_queue):
    """Two living workers without engines."""
    queues = make_worker_queue("gpu1-a"), make_worker_queue("gpu2-b")
    for queue in queues:
        queue.beat()
    return queues


def ids(claim):
    return [task.task_id for task in claim.tasks]


def test_a_young_task_goes_to_the_worker_that_has_its_model_in_memory(workers, enqueue):
    one, two = workers
    young = {"age_ms": 0}
    first_b, a, second_b = enqueue(2, B, **young), enqueue(2, A, **young), enqueue(2, B, **young)
    options = {"wait_for_batch": False}
    assert ids(one.claim(8, loaded=["a@1"], **options)) == [a], "the oldest is not for this one"
    assert ids(two.claim(8, loaded=["b@1", "c@1"], **options)) == [first_b, second_b]


@pytest.mark.parametrize("priority", [0, 2])
def test_one_that_nobody_with_its_model_takes_is_for_everybody_soon(workers, enqueue, priority):
    one, _ = workers
    task = enqueue(priority, B, age_ms=0)
    left = one.claim(1, loaded=["a@1"], wait_for_batch=False)
    assert left.tasks == ()
    assert 0 < left.wait <= 0.02
    wait_until(lambda: ids(one.claim(1, loaded=["a@1"], wait_for_batch=False)) == [task], 2)


def test_a_busy_worker_is_not_told_to_wait_for_a_cold_model(workers, enqueue):
    one, _ = workers
    enqueue(0, B, age_ms=0)
    answer = one.claim(1, warm_key=A, only_class=0, join=True, loaded=["a@1"])
    assert (answer.tasks, answer.wait) == ((), 0.0), "it looks again at its next step"


def test_a_lone_worker_loads_at_once(make_worker_queue, enqueue):
    queue = make_worker_queue("gpu1-a")
    queue.beat()
    task = enqueue(2, B, age_ms=0)
    assert ids(queue.claim(1, loaded=[], wait_for_batch=False)) == [task]


def test_a_full_worker_leaves_the_rest_to_one_with_room(workers, enqueue):
    one, two = workers
    tasks = [enqueue(2, A) for _ in range(12)]
    assert ids(one.claim(8, loaded=["a@1"])) == tasks[:8]
    assert ids(one.claim(1, warm_key=A, closed=[A], join=True, loaded=["a@1"])) == []
    assert ids(two.claim(8, loaded=["a@1"])) == tasks[8:]


class Engine:
    """Room for eight, nothing runs."""

    warm_key = None
    paused_memory_full = False

    def room(self, model, width, height, priority):
        return 8


def test_idle_workers_take_what_their_pools_hold(user):
    """Rows and all, through the worker's intake."""
    mini = ImageModel.objects.get(name="mini")
    spare = ImageModel.objects.create(
        name="spare", title="Spare", family=mini.family, source=mini.source, kinds=mini.kinds, max_side=mini.max_side
    )
    with ThreadPoolExecutor(2) as threads:
        taken, queues = {}, {}
        for name in ("gpu1-a", "gpu2-b"):
            config = WorkerQueueConfig(worker=name, own_queue="dq.any", cold_ms=10_000)
            queues[name] = WorkerQueue(redis_clients.connect(settings.REDIS_URL, 5), config)
            queues[name].beat()
        of_spare, of_mini = submit(user, model="spare", count=2), submit(user, model="mini", count=2)
        for name, model in (("gpu1-a", mini), ("gpu2-b", spare)):
            intake = Intake(queues[name], threads)
            intake.claim(Engine(), {}, [model.key])
            taken[name] = sorted(one.task.id for one in intake.take_claimed(wait=True).running)
    assert taken == {"gpu1-a": sorted(of_mini), "gpu2-b": sorted(of_spare)}
