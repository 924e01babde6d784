"""The buffer's promises, each against a real Redis."""

import json
import time
from collections import Counter
from dataclasses import replace

import pytest

from generation.queue.values import BatchKey, EntryState, Release

KEY = BatchKey("mini@1", 256, 256)
OTHER = BatchKey("mini@1", 512, 512)


def ids(claim):
    return [task.task_id for task in claim.tasks]


def priorities(claim):
    return [task.priority for task in claim.tasks]


# order


def test_a_claim_takes_the_oldest_of_one_key(make_worker_queue, enqueue):
    first, second = enqueue(), enqueue()
    enqueue(key=OTHER)
    assert ids(make_worker_queue().claim(8)) == [first, second]


def test_two_claimers_share_no_task(make_worker_queue, enqueue):
    tasks = {enqueue() for _ in range(10)}
    one, two = make_worker_queue("gpu1-a"), make_worker_queue("gpu2-b")
    claimed = [id_ for _ in range(5) for queue in (one, two) for id_ in ids(queue.claim(1))]
    assert len(claimed) == 10
    assert set(claimed) == tasks


def test_enqueueing_twice_changes_nothing(make_worker_queue, enqueue, redis):
    task = enqueue()
    enqueue(task_id=task)
    assert redis.hget("gq:n", 2) == "1"
    assert ids(make_worker_queue().claim(8)) == [task]
    enqueue(task_id=task)
    assert make_worker_queue().claim(8).tasks == ()


def test_shares_are_exactly_5_3_1_1_when_all_classes_are_full(make_worker_queue, enqueue):
    for priority in range(4):
        for _ in range(200):
            enqueue(priority)
    queue = make_worker_queue()
    served = Counter(priorities_of for _ in range(240) for priorities_of in priorities(queue.claim(1)))
    assert served == {0: 120, 1: 72, 2: 24, 3: 24}


def test_shares_hold_for_batches_that_mix_classes(make_worker_queue, enqueue):
    for priority in range(4):
        for _ in range(200):
            enqueue(priority)
    queue = make_worker_queue()
    served = Counter(p for _ in range(40) for p in priorities(queue.claim(8)))
    assert served.total() == 320
    assert all(abs(served[p] - 320 * share / 10) <= 8 for p, share in enumerate((5, 3, 1, 1)))


def test_shares_are_of_work_not_of_tasks(make_worker_queue, enqueue):
    for _ in range(200):
        enqueue(1, weight=4)
        enqueue(2, weight=1)
    queue = make_worker_queue()
    served = Counter(p for _ in range(100) for p in priorities(queue.claim(1)))
    assert served[1] * 4 / served[2] == pytest.approx(3, rel=0.15)


def test_an_idle_class_leaves_its_share_to_the_others_and_cashes_nothing_in_later(make_worker_queue, enqueue):
    for _ in range(300):
        enqueue(1)
        enqueue(3)
    queue = make_worker_queue()
    assert Counter(p for _ in range(100) for p in priorities(queue.claim(1))) == {1: 75, 3: 25}
    for _ in range(100):
        enqueue(0)
    served = Counter(p for _ in range(90) for p in priorities(queue.claim(1)))
    assert all(abs(served[p] - fair) <= 1 for p, fair in {0: 50, 1: 30, 3: 10}.items())


def test_no_one_joins_a_batch_that_p0_leads(make_worker_queue, enqueue):
    urgent = enqueue(0)
    enqueue(1)
    assert ids(make_worker_queue().claim(8)) == [urgent]


def test_users_of_a_class_take_turns_whatever_they_queued_first(make_worker_queue, enqueue):
    for _ in range(50):
        enqueue(user=1)
    queue = make_worker_queue()
    queue.claim(10)
    late = [enqueue(user=2) for _ in range(5)]
    assert set(late) <= set(ids(queue.claim(11)))


def test_turns_are_weighed_by_the_work_asked_for(make_worker_queue, enqueue):
    big = {enqueue(user=1, weight=10) for _ in range(50)}
    for _ in range(500):
        enqueue(user=2, weight=1)
    queue = make_worker_queue()
    served = [id_ for _ in range(110) for id_ in ids(queue.claim(1))]
    assert sum(id_ in big for id_ in served) == pytest.approx(10, abs=1)


def test_a_user_is_not_charged_for_what_was_cancelled(make_worker_queue, enqueue, cancel):
    enqueue(user=9)  # somebody else keeps the class awake
    for id_ in [enqueue(user=1) for _ in range(100)]:
        assert cancel(id_) == "removed"
    rival = [enqueue(user=2) for _ in range(10)]
    mine = enqueue(user=1)
    served = [id_ for _ in range(3) for id_ in ids(make_worker_queue().claim(1))]
    assert mine in served
    assert rival[1] not in served


# batch keys


def test_the_warm_key_goes_on_while_the_fair_choice_is_young(make_worker_queue, enqueue):
    enqueue(key=OTHER, age_ms=500)
    warm = enqueue(key=KEY, age_ms=400)
    assert ids(make_worker_queue().claim(8, warm_key=KEY)) == [warm]


def test_the_warm_key_ends_when_the_fair_choice_has_waited_two_seconds(make_worker_queue, enqueue):
    old = enqueue(key=OTHER, age_ms=2100)
    enqueue(key=KEY, age_ms=400)
    assert ids(make_worker_queue().claim(8, warm_key=KEY)) == [old]


def test_a_worker_takes_only_the_models_it_serves(make_worker_queue, enqueue):
    enqueue(key=BatchKey("sdxl@1", 1024, 1024))
    mine = enqueue(key=BatchKey("mini@2", 256, 256))
    assert ids(make_worker_queue(models=("mini",)).claim(8)) == [mine]
    assert make_worker_queue(models=("mini",)).claim(8).tasks == ()


def test_only_key_and_only_class_narrow_the_claim(make_worker_queue, enqueue):
    enqueue(0, key=OTHER)
    enqueue(2, key=OTHER)
    other = enqueue(2, key=KEY)
    assert ids(make_worker_queue().claim(8, only_key=KEY)) == [other]
    assert priorities(make_worker_queue().claim(8, only_class=2)) == [2]


def test_a_busy_worker_takes_only_more_of_its_key_or_p0(make_worker_queue, enqueue):
    queue = make_worker_queue()
    due = enqueue(key=OTHER, age_ms=3000)
    other = enqueue(key=KEY, age_ms=2000)
    assert queue.claim(8, warm_key=KEY, join=True).tasks == ()
    urgent = enqueue(0, key=OTHER)
    assert ids(queue.claim(8, warm_key=KEY, join=True)) == [urgent]
    assert ids(queue.claim(1)) == [due]
    assert ids(queue.claim(8, warm_key=KEY, join=True)) == [other]


def test_a_closed_key_is_passed_over(make_worker_queue, enqueue):
    enqueue(key=OTHER)
    mine = enqueue(key=KEY)
    assert ids(make_worker_queue().claim(8, closed=[OTHER])) == [mine]


def test_slots_count_samples_and_the_first_task_always_fits(make_worker_queue, enqueue):
    big, small, medium = enqueue(samples=6), enqueue(samples=1), enqueue(samples=3)
    queue = make_worker_queue()
    assert ids(queue.claim(4)) == [big]
    assert ids(queue.claim(3)) == [small]
    assert ids(queue.claim(3)) == [medium]


def test_a_young_task_waits_for_others_of_its_key_until_the_window_closes(make_worker_queue, enqueue):
    queue = make_worker_queue(window_ms=5000)
    enqueue(age_ms=1000)
    assert 3.5 < queue.claim(8).wait <= 4
    assert len(queue.claim(8, wait_for_batch=False).tasks) == 1
    for _ in range(4):
        enqueue(age_ms=1000)
    assert len(queue.claim(8).tasks) == 4


def test_p0_never_waits_for_a_batch(make_worker_queue, enqueue):
    urgent = enqueue(0, age_ms=0)
    assert ids(make_worker_queue(window_ms=5000).claim(8)) == [urgent]


def test_what_expired_while_waiting_is_left_to_the_reconciler(make_worker_queue, enqueue, redis):
    expired = enqueue(expires_in_ms=-1)
    live = enqueue(expires_in_ms=60_000)
    assert ids(make_worker_queue().claim(8)) == [live]
    assert redis.hget(f"gq:t:{expired}", "st") == EntryState.ENDED


# running


def test_a_tick_names_what_is_cancelled_and_what_is_lost(make_worker_queue, enqueue, cancel, redis):
    for _ in range(3):
        enqueue()
    queue = make_worker_queue()
    ok, doomed, lost = queue.claim(3).tasks
    assert cancel(doomed.task_id) == "signalled"
    redis.hset(f"gq:t:{lost.task_id}", "own", "gpu9-z")
    tick = queue.tick([ok, doomed, lost])
    assert (tick.cancelled, tick.taken_over) == ({doomed.task_id}, {lost.task_id})


def test_a_running_task_survives_the_loss_of_redis(make_worker_queue, enqueue, redis):
    task = enqueue(samples=2)
    queue = make_worker_queue()
    (held,) = queue.claim(8).tasks
    redis.flushdb()
    tick = queue.tick([held])
    assert (tick.cancelled, tick.taken_over) == (frozenset(), frozenset())
    assert queue.state(task) == (EntryState.RUNNING, "gpu1-a")
    assert queue.requeue_dead("gpu1-a").requeued == (task,)
    assert redis.hget(f"gq:t:{task}", "n") == "2"


def test_a_tick_says_whether_p0_may_preempt(make_worker_queue, enqueue):
    queue = make_worker_queue()
    for _ in range(20):
        enqueue(2)
    held = queue.claim(4).tasks
    assert queue.tick(held).p0_waits is False
    for _ in range(40):
        enqueue(0)
    assert queue.tick(held).p0_waits is True
    assert queue.tick(held).waiting == 56


def test_a_p0_flood_does_not_preempt_beyond_its_share(make_worker_queue, enqueue):
    for _ in range(100):
        enqueue(0)
        enqueue(2)
    queue = make_worker_queue()
    taken: Counter[int] = Counter()
    while taken.total() < 60:
        only = 0 if queue.tick([]).p0_waits else None
        taken.update(priorities(queue.claim(1, only_class=only)))
    assert taken == {0: 50, 2: 10}


def test_only_the_owner_with_the_right_fence_settles(make_worker_queue, enqueue):
    enqueue()
    one, two = make_worker_queue("gpu1-a"), make_worker_queue("gpu2-b")
    (held,) = one.claim(1).tasks
    assert two.settle(held, Release.ENDED) is False
    assert one.settle(held, Release.WAITING) is True
    (again,) = one.claim(1).tasks
    assert one.settle(held, Release.ENDED) is False
    assert one.settle(again, Release.ENDED) is True
    assert one.state(held.task_id) == (EntryState.ENDED, "gpu1-a")


def test_what_is_handed_back_keeps_its_place(make_worker_queue, enqueue):
    tasks = [enqueue() for _ in range(5)]
    queue = make_worker_queue()
    (held,) = queue.claim(1).tasks
    queue.settle(held, Release.WAITING)
    assert ids(queue.claim(8)) == tasks


def test_a_claim_whose_reply_was_lost_is_found_and_put_back(make_worker_queue, enqueue):
    task = enqueue()
    queue = make_worker_queue()
    queue.claim(1)
    assert queue.requeue_orphans([task]) == []
    assert queue.requeue_orphans([]) == [task]
    assert ids(make_worker_queue("gpu2-b").claim(1)) == [task]


# crashes


def test_a_dead_workers_tasks_run_again_first_and_together(make_worker_queue, enqueue, redis):
    victims = [enqueue() for _ in range(3)]
    make_worker_queue("gpu1-a").claim(3)
    others = [enqueue() for _ in range(3)]
    queue = make_worker_queue("gpu2-b")
    assert sorted(queue.requeue_dead("gpu1-a", "watchdog").requeued) == sorted(victims)
    notes = [json.loads(note) for note in redis.lrange("gq:resend_tickets", 0, -1)]
    noted = {(note["id"], note["worker"], note["cause"]) for note in notes}
    assert noted == {(id_, "gpu1-a", "watchdog") for id_ in victims}
    assert sorted(ids(queue.claim(3))) == sorted(victims)
    assert ids(queue.claim(3)) == others


def test_after_a_second_crash_each_runs_alone_and_the_one_that_crashes_again_is_given_up(
    make_worker_queue, enqueue, redis
):
    crashing, *others = [enqueue() for _ in range(4)]
    watchdog = make_worker_queue("watchdog")
    for worker in ("gpu1-a", "gpu1-b"):
        assert len(make_worker_queue(worker).claim(8).tasks) == 4
        assert len(watchdog.requeue_dead(worker).requeued) == 4
    done = []
    for number in range(4):
        queue = make_worker_queue(f"gpu2-{number}")
        (task,) = queue.claim(8).tasks
        assert task.alone
        if task.task_id == crashing:
            assert watchdog.requeue_dead(f"gpu2-{number}").given_up == (crashing,)
        else:
            queue.settle(task, Release.ENDED)
            done.append(task.task_id)
    assert sorted(done) == sorted(others)
    assert json.loads(redis.lpop("gq:given_up"))["id"] == crashing
    assert make_worker_queue().claim(1).tasks == ()


def test_after_a_hung_step_each_runs_alone_at_once(make_worker_queue, enqueue):
    enqueue()
    make_worker_queue("gpu1-a").claim(1)
    make_worker_queue("watchdog").requeue_dead("gpu1-a", "a step hung", alone=True)
    assert [task.alone for task in make_worker_queue("gpu2-b").claim(1).tasks] == [True]


def test_who_is_alone_for_another_reason_is_not_blamed_for_its_first_crash(make_worker_queue, enqueue):
    task = enqueue()
    (held,) = make_worker_queue("gpu1-a").claim(1).tasks
    make_worker_queue("gpu1-a").settle(held, Release.ALONE)
    for worker in ("gpu1-b", "gpu1-c"):
        (held,) = make_worker_queue(worker).claim(1).tasks
        assert held.batch_key == replace(KEY, alone=task)
        requeued = make_worker_queue("watchdog").requeue_dead(worker, "killed")
        assert (requeued.requeued, requeued.given_up) == (((task,), ()) if worker == "gpu1-b" else ((), (task,)))


def test_a_cancelled_task_of_a_dead_worker_does_not_run_again(make_worker_queue, enqueue, cancel, redis):
    task = enqueue()
    queue = make_worker_queue()
    queue.claim(1)
    cancel(task)
    assert queue.requeue_dead("gpu1-a").requeued == ()
    assert redis.lrange("gq:to_cancel", 0, -1) == [task]


def test_anybody_requeues_the_tasks_of_an_expired_lease_and_not_those_of_a_live_one(make_worker_queue, enqueue):
    dead, live = make_worker_queue("gpu1-a", lease_ms=150), make_worker_queue("gpu2-b", lease_ms=60_000)
    live.beat()
    live.redis.delete("gq:grace")
    lost, kept = enqueue(), enqueue()
    dead.beat()
    dead.claim(1)
    live.claim(1)
    assert live.requeue_dead().requeued == ()
    time.sleep(0.16)
    assert live.tick([]).lease_expired is True
    assert live.requeue_dead().requeued == (lost,)
    assert live.state(kept) == (EntryState.RUNNING, "gpu2-b")
    assert live.tick([]).lease_expired is False


def test_after_an_outage_of_redis_no_lease_expires_until_all_could_renew(make_worker_queue, enqueue, redis):
    worker = make_worker_queue("gpu1-a", lease_ms=50)
    worker.beat()
    redis.delete("gq:grace")
    enqueue()
    worker.claim(1)
    long_ago = int(time.time() * 1000) - 10_000
    redis.set("gq:lastbeat", long_ago)
    redis.zadd("gq:lease", {"gpu1-a": long_ago})
    assert worker.requeue_dead().requeued == ()
    worker.beat()
    assert worker.requeue_dead().requeued == ()


# tickets


def ticket(task_id):
    return json.dumps({"body": "W10=", "headers": {"lang": "py", "task": "generate", "id": task_id}})


def test_tickets_of_claimed_tasks_move_to_the_workers_queue(make_worker_queue, enqueue, redis):
    tasks = [enqueue() for _ in range(100)]
    redis.lpush("p2", *map(ticket, tasks))
    claimed = ids(make_worker_queue().claim(8))
    assert redis.llen("p2") == 92
    moved = [json.loads(message)["headers"]["id"] for message in redis.lrange("dq.gpu1", 0, -1)]
    assert sorted(moved) == sorted(claimed)


def test_cancelling_removes_the_ticket(enqueue, cancel, redis):
    tasks = [enqueue() for _ in range(100)]
    redis.lpush("p2", *map(ticket, tasks))
    assert cancel(tasks[50]) == "removed"
    assert redis.llen("p2") == 99
    assert cancel(tasks[50]) == "absent"


def test_nothing_stays_in_redis_when_every_task_has_ended(make_worker_queue, enqueue, cancel, redis):
    for priority in range(4):
        for user in range(5):
            enqueue(priority, user=user, weight=0.3)
    cancel(enqueue(2))
    queue = make_worker_queue()
    while claim := queue.claim(3).tasks:
        for task in claim:
            queue.settle(task, Release.ENDED)
    assert set(redis.hvals("gq:n")) == {"0"}
    assert set(redis.hvals("gq:work")) == {"0"}
    assert redis.keys("gq:[wkf]:*") == []
    assert redis.keys("gq:run:*") == []
