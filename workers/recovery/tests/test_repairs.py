"""The reconciler's repairs, one at a time, over real Postgres and Redis."""

import re
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone

from fixtures.fleet import statuses, submit
from generation.queue import client as queue_client
from generation.queue.worker import WorkerQueue, WorkerQueueConfig
from generation.tasks import cancel, stages, states
from generation.tasks.models import Task
from generation.tasks.open_tasks import RecentDays
from generation.telemetry.models import Alert
from imagegenx_site import redis_clients
from workers import recovery
from workers.recovery import cancels, expiry, lost_workers
from workers.recovery.audit import Audit, AuditConfig
from workers.recovery.cancels import CancelsConfig
from workers.recovery.redis_epoch import RedisEpoch, RedisEpochConfig
from workers.recovery.schedule import RecoveryConfig, repairs
from workers.recovery.stages import StageMessages, StageMessagesConfig


@pytest.fixture
def redis(user):
    return redis_clients.connect(settings.REDIS_URL, 5)


@pytest.fixture
def audit(redis):
    return make_audit(redis, min_age_s=0.0)


def make_audit(redis, **config):
    return Audit(redis, WorkerQueue(redis, WorkerQueueConfig(worker="reconciler", own_queue="")), AuditConfig(**config))


@pytest.fixture
def epoch(redis):
    return RedisEpoch(redis, RedisEpochConfig(grace=0.0), rebuilt=lambda: None)


@pytest.fixture
def worker(redis):
    """A worker without a process: claims, and holds a lease."""
    queue = WorkerQueue(redis, WorkerQueueConfig(worker="gpu1-1-a", own_queue="dq.gpu1", lease_ms=60_000, window_ms=0))
    queue.beat()
    return queue


def claim(worker):
    claims = worker.claim(8).tasks
    return states.claim([held.task_id for held in claims], worker.config.worker)


def test_after_a_flush_every_queued_row_is_enqueued_again(user, epoch, redis, worker):
    ids = submit(user, count=5)
    redis.flushdb()
    epoch.run()
    assert {held.task_id for held in worker.claim(8).tasks} == {str(id_) for id_ in ids}
    assert redis.llen("dq.gpu1") == 5
    redis.flushdb()
    redis.set("gq:epoch", 1)
    epoch.run()
    assert worker.claim(8).tasks == ()


def test_after_a_flush_running_tasks_get_time_to_register(user, redis):
    redis.flushdb()
    RedisEpoch(redis, RedisEpochConfig(grace=5), rebuilt=lambda: None).run()
    assert not redis.exists("gq:epoch")


def test_a_queued_row_that_redis_does_not_know_is_enqueued(user, audit, redis, worker):
    (task_id,) = submit(user)
    redis.delete(f"gq:t:{task_id}", *redis.keys("gq:w:*"), *redis.keys("gq:k:*"))
    audit.run()
    assert [held.task_id for held in worker.claim(8).tasks] == [str(task_id)]


def test_a_fresh_row_is_left_to_its_submitter(user, redis):
    (task_id,) = submit(user)
    redis.delete(f"gq:t:{task_id}")
    make_audit(redis, min_age_s=3).run()
    assert not redis.exists(f"gq:t:{task_id}")


@pytest.mark.parametrize("half", ["the row", "the entry"])
def test_a_task_that_got_half_of_another_priority_is_mended_by_the_row(user, audit, redis, worker, half):
    """The process died between the row and the entry, or before the row was committed."""
    first, goes = submit(user, count=2, priority=2)
    if half == "the row":
        states.set_priority(goes, 1)
    else:
        queue_client.set_priority(goes, 1)
    audit.run()
    expected = 1 if half == "the row" else 2
    assert redis.hget(f"gq:t:{goes}", "cls") == str(expected)
    assert [redis.hget("gq:n", number) or "0" for number in (1, 2)] == (["1", "1"] if expected == 1 else ["0", "2"])
    assert redis.llen(f"p{expected}") == (1 if expected == 1 else 2)
    assert redis.hget(f"gq:t:{first}", "cls") == "2"


def test_a_priority_that_was_given_just_now_is_left_alone(user, redis, worker):
    (task_id,) = submit(user, priority=2)
    states.set_priority(task_id, 1)
    make_audit(redis, min_age_s=3).run()
    assert redis.hget(f"gq:t:{task_id}", "cls") == "2"


def test_the_audit_turns_the_pages(user, redis):
    submit(user, count=7)
    redis.flushdb()
    audit = make_audit(redis, min_age_s=0, page=3)
    for expected in (3, 6, 7):
        audit.run()
        assert redis.hget("gq:n", 2) == str(expected)


def test_a_running_row_that_nobody_holds_goes_back_at_the_second_look(user, audit, redis, worker):
    (task_id,) = submit(user)
    claim(worker)
    redis.delete(f"gq:t:{task_id}")
    audit.run()
    assert statuses([task_id]) == {"running": 1}
    audit.run()
    assert statuses([task_id]) == {"queued": 1}
    assert worker.state(str(task_id)) == ("w", None)


def test_a_running_row_whose_worker_lives_is_left_alone(user, audit, worker):
    (task_id,) = submit(user)
    claim(worker)
    for _ in range(3):
        audit.run()
    assert statuses([task_id]) == {"running": 1}


def test_the_tasks_of_an_owner_without_a_lease_are_requeued_at_the_second_look(user, audit, redis, worker):
    (task_id,) = submit(user)
    claim(worker)
    redis.zrem("gq:lease", "gpu1-1-a")
    audit.run()
    audit.run()
    assert worker.state(str(task_id))[0] == "w"


def test_what_a_dead_worker_left_is_written_into_the_rows(user, redis, worker):
    (task_id,) = submit(user)
    claim(worker)
    redis.delete("dq.gpu1")
    worker.requeue_dead("gpu1-1-a", "the worker process died")
    lost_workers.run(redis)
    task = Task.objects.get(pk=task_id)
    assert (task.status, task.attempt) == ("queued", 1)
    last = task.history[-1]
    assert (last["reason"], last["code"]) == ("worker lost: the worker process died", "worker_lost")
    assert redis.llen("p2") == 1
    for _ in range(2):
        claim(worker)
        worker.requeue_dead("gpu1-1-a", "the worker process died")
        lost_workers.run(redis)
    task.refresh_from_db()
    assert (task.status, task.error_code) == ("failed", "worker_crashed")
    assert redis.llen("gq:given_up") == redis.llen("gq:resend_tickets") == 0


def test_a_dead_worker_leaves_an_alert_also_when_it_held_nothing(user, redis, worker):
    worker.requeue_dead("gpu1-1-a", "the worker process died")
    lost_workers.run(redis)
    assert [(alert.worker, alert.kind) for alert in Alert.objects.all()] == [("gpu1-1", "worker_lost")]
    worker.leave()
    worker.requeue_dead("gpu1-1-a", "a second look")
    lost_workers.run(redis)
    assert Alert.objects.count() == 1


def test_a_late_note_about_a_task_that_runs_again_changes_nothing(user, redis, worker):
    (task_id,) = submit(user)
    claim(worker)
    worker.requeue_dead("gpu1-1-a")
    other = WorkerQueue(worker.redis, WorkerQueueConfig(worker="gpu2-2-b", own_queue="dq.gpu2", window_ms=0))
    claim(other)
    lost_workers.run(redis)
    assert Task.objects.get(pk=task_id).worker == "gpu2-2-b"


def test_rows_expire_and_leave_the_buffer(user):
    (task_id,) = submit(user, queue_seconds=0)
    expiry.run(RecentDays())
    assert statuses([task_id]) == {"expired": 1}
    assert queue_client.backlog().tasks == (0, 0, 0, 0)


def test_a_cancel_that_redis_lost_is_repeated(user, redis, worker):
    (task_id,) = submit(user)
    claim(worker)
    states.request_cancel(task_id)
    cancels.run(CancelsConfig(min_age_s=0.0), RecentDays())
    assert redis.hget(f"gq:t:{task_id}", "cx") == "1"


def test_a_cancel_that_no_worker_will_obey_is_carried_out(user, redis, worker):
    (task_id,) = submit(user)
    claim(worker)
    states.request_cancel(task_id)
    redis.delete(f"gq:t:{task_id}")
    cancels.run(CancelsConfig(min_age_s=0.0), RecentDays())
    assert statuses([task_id]) == {"cancelled": 1}


def test_a_cancelled_task_of_a_dead_worker_ends_cancelled(user, redis, worker):
    (task_id,) = submit(user)
    claim(worker)
    cancel.cancel_task(Task.objects.get(pk=task_id))
    worker.requeue_dead("gpu1-1-a")
    lost_workers.run(redis)
    assert statuses([task_id]) == {"cancelled": 1}


def test_stages_are_sent_again_from_the_rows_state_with_growing_patience(user, redis, worker):
    (task_id,) = submit(user)
    (task,) = claim(worker)
    states.mark_generated(task_id, worker="gpu1-1-a", attempt=task.attempt)
    messages = StageMessages(StageMessagesConfig(patience=0.2, patience_max=10))
    messages.run()
    assert redis.llen("cpu.p2") == 0
    time.sleep(0.25)
    messages.run()
    messages.run()
    assert redis.llen("cpu.p2") == 1
    time.sleep(0.25)
    messages.run()
    messages.run()
    assert redis.llen("cpu.p2") == 2


def test_a_stage_that_somebody_works_on_is_not_sent(user, redis, worker):
    (task_id,) = submit(user)
    (task,) = claim(worker)
    states.mark_generated(task_id, worker="gpu1-1-a", attempt=task.attempt)
    states.take_stage(task_id, stages.named("postprocess"), "cpu1", 60)
    messages = StageMessages(StageMessagesConfig(patience=0.0))
    messages.run()
    assert redis.llen("cpu.p2") == 0
    Task.objects.filter(pk=task_id).update(stage_until=timezone.now() - timedelta(seconds=1))
    messages.run()
    assert redis.llen("cpu.p2") == 1


def test_after_a_flush_stages_are_sent_again_at_once(user, redis, worker):
    (task_id,) = submit(user)
    (task,) = claim(worker)
    states.mark_generated(task_id, worker="gpu1-1-a", attempt=task.attempt)
    Task.objects.filter(pk=task_id).update(updated_at=timezone.now() - timedelta(seconds=100))
    quick = RecoveryConfig(redis_epoch=RedisEpochConfig(grace=0.0))
    runs = {repair.name: repair.run for repair in repairs(redis, quick)}
    runs["redis_epoch"]()
    runs["stages"]()
    runs["stages"]()
    assert redis.llen("cpu.p2") == 1
    redis.flushdb()
    runs["redis_epoch"]()
    runs["stages"]()
    assert redis.llen("cpu.p2") == 1


def test_the_drawing_of_the_package_is_the_schedule(redis):
    drawn = re.findall(r"^    ([\d.]+) s +(\w+)", recovery.__doc__ or "", re.MULTILINE)
    scheduled = [(repair.period, repair.name) for repair in repairs(redis, RecoveryConfig())]
    assert [(float(period), name) for period, name in drawn] == scheduled
    files = {path.stem for path in Path(recovery.__path__[0]).glob("*.py")}
    assert {name for _, name in scheduled} == files - {"__init__", "schedule", "reconciler"}
