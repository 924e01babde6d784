"""The reconciler's jobs, one at a time, over real Postgres and Redis."""

import time
from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from fixtures.fleet import statuses, submit
from generation.queue import client as queue_client
from generation.queue.buffer import Buffer, BufferConfig
from generation.tasks import cancel, states
from generation.tasks.models import Task
from generation.telemetry.models import Alert
from imagegenx_site import redis_clients
from workers.recovery.jobs import Repairs, RepairsConfig

QUICK = RepairsConfig(settled=0.0, epoch_grace=0.0, stage_patience=0.0)


@pytest.fixture
def redis(user):
    return redis_clients.connect(settings.REDIS_URL, 5)


@pytest.fixture
def repairs(redis):
    return Repairs(redis, QUICK)


@pytest.fixture
def worker(redis):
    """A worker without a process: claims, and holds a lease."""
    buffer = Buffer(redis, BufferConfig(worker="gpu1-1-a", own_queue="dq.gpu1", lease_ms=60_000, window_ms=0))
    buffer.beat()
    return buffer


def claim(worker):
    claims = worker.claim(8).tasks
    return states.claim([held.task_id for held in claims], worker.config.worker)


def test_after_a_flush_every_queued_row_is_enqueued_again(user, repairs, redis, worker):
    ids = submit(user, count=5)
    redis.flushdb()
    repairs.epoch()
    assert {held.task_id for held in worker.claim(8).tasks} == {str(id_) for id_ in ids}
    assert redis.llen("dq.gpu1") == 5
    redis.flushdb()
    redis.set("gq:epoch", 1)
    repairs.epoch()
    assert worker.claim(8).tasks == ()


def test_after_a_flush_running_tasks_get_time_to_register(user, redis):
    redis.flushdb()
    Repairs(redis, RepairsConfig(epoch_grace=5)).epoch()
    assert not redis.exists("gq:epoch")


def test_a_queued_row_that_redis_does_not_know_is_enqueued(user, repairs, redis, worker):
    (task_id,) = submit(user)
    redis.delete(f"gq:t:{task_id}", *redis.keys("gq:w:*"), *redis.keys("gq:k:*"))
    repairs.audit()
    assert [held.task_id for held in worker.claim(8).tasks] == [str(task_id)]


def test_a_fresh_row_is_left_to_its_submitter(user, redis):
    (task_id,) = submit(user)
    redis.delete(f"gq:t:{task_id}")
    Repairs(redis, RepairsConfig(settled=3)).audit()
    assert not redis.exists(f"gq:t:{task_id}")


@pytest.mark.parametrize("half", ["the row", "the entry"])
def test_a_task_that_got_half_of_another_class_is_mended_by_the_row(user, repairs, redis, worker, half):
    """The process died between the row and the entry, or before the row was committed."""
    first, goes = submit(user, count=2, priority=2)
    if half == "the row":
        states.set_priority(goes, 1)
    else:
        queue_client.reclass(goes, 1)
    repairs.audit()
    expected = 1 if half == "the row" else 2
    assert redis.hget(f"gq:t:{goes}", "cls") == str(expected)
    assert [redis.hget("gq:n", number) or "0" for number in (1, 2)] == (["1", "1"] if expected == 1 else ["0", "2"])
    assert redis.llen(f"p{expected}") == (1 if expected == 1 else 2)
    assert redis.hget(f"gq:t:{first}", "cls") == "2"


def test_a_class_that_was_given_just_now_is_left_alone(user, redis, worker):
    (task_id,) = submit(user, priority=2)
    states.set_priority(task_id, 1)
    Repairs(redis, RepairsConfig(settled=3)).audit()
    assert redis.hget(f"gq:t:{task_id}", "cls") == "2"


def test_the_audit_turns_the_pages(user, redis):
    submit(user, count=7)
    redis.flushdb()
    repairs = Repairs(redis, RepairsConfig(settled=0, page=3))
    for expected in (3, 6, 7):
        repairs.audit()
        assert redis.hget("gq:n", 2) == str(expected)


def test_a_running_row_that_nobody_holds_goes_back_at_the_second_look(user, repairs, redis, worker):
    (task_id,) = submit(user)
    claim(worker)
    redis.delete(f"gq:t:{task_id}")
    repairs.audit()
    assert statuses([task_id]) == {"running": 1}
    repairs.audit()
    assert statuses([task_id]) == {"queued": 1}
    assert worker.state(str(task_id)) == ("w", None)


def test_a_running_row_whose_worker_lives_is_left_alone(user, repairs, worker):
    (task_id,) = submit(user)
    claim(worker)
    for _ in range(3):
        repairs.audit()
    assert statuses([task_id]) == {"running": 1}


def test_the_tasks_of_an_owner_without_a_lease_are_put_back_at_the_second_look(user, repairs, redis, worker):
    (task_id,) = submit(user)
    claim(worker)
    redis.zrem("gq:lease", "gpu1-1-a")
    repairs.audit()
    repairs.audit()
    assert worker.state(str(task_id))[0] == "w"


def test_what_a_dead_worker_left_is_written_into_the_rows(user, repairs, redis, worker):
    (task_id,) = submit(user)
    claim(worker)
    redis.delete("dq.gpu1")
    worker.requeue_dead("gpu1-1-a", "the worker process died")
    repairs.notes()
    task = Task.objects.get(pk=task_id)
    assert (task.status, task.attempt) == ("queued", 1)
    last = task.history[-1]
    assert (last["reason"], last["code"]) == ("worker lost: the worker process died", "worker_lost")
    assert redis.llen("p2") == 1
    for _ in range(2):
        claim(worker)
        worker.requeue_dead("gpu1-1-a", "the worker process died")
        repairs.notes()
    task.refresh_from_db()
    assert (task.status, task.error_code) == ("failed", "worker_crashed")
    assert redis.llen("gq:dead") == redis.llen("gq:retick") == 0


def test_a_dead_worker_leaves_an_alert_also_when_it_held_nothing(user, repairs, worker):
    worker.requeue_dead("gpu1-1-a", "the worker process died")
    repairs.notes()
    assert [(alert.worker, alert.kind) for alert in Alert.objects.all()] == [("gpu1", "worker_lost")]
    worker.leave()
    worker.requeue_dead("gpu1-1-a", "a second look")
    repairs.notes()
    assert Alert.objects.count() == 1


def test_a_late_note_about_a_task_that_runs_again_changes_nothing(user, repairs, worker):
    (task_id,) = submit(user)
    claim(worker)
    worker.requeue_dead("gpu1-1-a")
    other = Buffer(worker.redis, BufferConfig(worker="gpu2-2-b", own_queue="dq.gpu2", window_ms=0))
    claim(other)
    repairs.notes()
    assert Task.objects.get(pk=task_id).worker == "gpu2-2-b"


def test_rows_expire_and_leave_the_buffer(user, repairs):
    (task_id,) = submit(user, queue_seconds=0)
    repairs.expiry()
    assert statuses([task_id]) == {"expired": 1}
    assert queue_client.backlog().tasks == (0, 0, 0, 0)


def test_a_cancel_that_redis_lost_is_repeated(user, repairs, redis, worker):
    (task_id,) = submit(user)
    claim(worker)
    states.request_cancel(task_id)
    repairs.cancels()
    assert redis.hget(f"gq:t:{task_id}", "cx") == "1"


def test_a_cancel_that_no_worker_will_obey_is_carried_out(user, repairs, redis, worker):
    (task_id,) = submit(user)
    claim(worker)
    states.request_cancel(task_id)
    redis.delete(f"gq:t:{task_id}")
    repairs.cancels()
    assert statuses([task_id]) == {"cancelled": 1}


def test_a_cancelled_task_of_a_dead_worker_ends_cancelled(user, repairs, worker):
    (task_id,) = submit(user)
    claim(worker)
    cancel.cancel_task(Task.objects.get(pk=task_id))
    worker.requeue_dead("gpu1-1-a")
    repairs.notes()
    assert statuses([task_id]) == {"cancelled": 1}


def test_stages_are_sent_again_from_the_rows_state_with_growing_patience(user, redis, worker):
    (task_id,) = submit(user)
    (task,) = claim(worker)
    states.mark_generated(task_id, worker="gpu1-1-a", attempt=task.attempt)
    repairs = Repairs(redis, RepairsConfig(stage_patience=0.2, stage_patience_max=10))
    repairs.stages()
    assert redis.llen("cpu") == 0
    time.sleep(0.25)
    repairs.stages()
    repairs.stages()
    assert redis.llen("cpu") == 1
    time.sleep(0.25)
    repairs.stages()
    repairs.stages()
    assert redis.llen("cpu") == 2


def test_a_stage_that_somebody_works_on_is_not_sent(user, redis, repairs, worker):
    (task_id,) = submit(user)
    (task,) = claim(worker)
    states.mark_generated(task_id, worker="gpu1-1-a", attempt=task.attempt)
    states.take_stage(task_id, "postprocess", "cpu1", 60)
    repairs.stages()
    assert redis.llen("cpu") == 0
    Task.objects.filter(pk=task_id).update(stage_until=timezone.now() - timedelta(seconds=1))
    repairs.stages()
    assert redis.llen("cpu") == 1
