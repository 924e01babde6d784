"""The policy with plain values: who shares the next forward pass, and who may be admitted."""

import random
from dataclasses import replace

import pytest

from workers.engine.batching.scheduler import Candidate, PausedTask, Policy, choose, room, tasks_to_evict
from workers.engine.requests import SampleId, TaskBatch

POLICY = Policy(urgent_cap=2, patience=5)


def candidate(name, key="a", *, rows=2, priority=2, arrived=0.0, passed_over=0):
    return Candidate(SampleId(name, 0), key, rows, priority, arrived, passed_over)


def chosen(samples, limit=16, policy=POLICY):
    """Task ids of the samples that share the next forward pass."""
    return [sample.sample_id.task_id for sample in choose(samples, lambda _: limit, policy)]


def test_without_candidates_nobody_is_chosen():
    assert chosen([]) == []


def test_the_key_of_the_oldest_is_served_oldest_first():
    samples = [
        candidate("young", "b", arrived=3),
        candidate("old", "a", arrived=1),
        candidate("same key", "a", arrived=2),
    ]
    assert chosen(samples) == ["old", "same key"]


def test_rows_and_not_samples_are_limited():
    samples = [candidate("one", rows=1, arrived=1), candidate("two", arrived=2), candidate("three", arrived=3)]
    assert chosen(samples, limit=3) == ["one", "two"]


def test_one_sample_runs_however_many_rows_it_has():
    assert chosen([candidate("big", rows=8)], limit=2) == ["big"]


def test_p0_pauses_other_keys_and_shares_with_one_of_its_own():
    samples = [candidate(f"p2-{i}", arrived=i) for i in range(5)]
    urgent = candidate("p0", arrived=9, priority=0)
    assert chosen([*samples, urgent]) == ["p0", "p2-0"]
    other_key = candidate("p0", "b", arrived=9, priority=0)
    assert chosen([*samples, other_key]) == ["p0"]


def test_many_p0_share_beyond_the_cap():
    samples = [candidate(f"p0-{i}", arrived=i, priority=0) for i in range(4)]
    assert chosen([*samples, candidate("p2", arrived=-1)]) == ["p0-0", "p0-1", "p0-2", "p0-3"]


def test_rows_are_rounded_down_to_a_bucket_and_the_rest_waits():
    buckets = Policy(row_buckets=(1, 2, 4, 8))
    samples = [candidate(str(i), arrived=i) for i in range(5)]
    assert chosen(samples, policy=buckets) == ["0", "1", "2", "3"]
    assert chosen([candidate("odd", rows=3)], policy=buckets) == ["odd"]


def of_batch(name, limit, *, batch="b", **changes):
    return replace(candidate(name, **changes), batch=TaskBatch(batch, limit))


def test_of_a_batch_only_as_many_tasks_share_a_pass_as_its_limit_says_and_others_fill_the_rest():
    batch = [of_batch(f"b{i}", 2, arrived=i) for i in range(4)]
    assert chosen(batch) == ["b0", "b1"]
    assert chosen(batch[1:]) == ["b1", "b2"]
    assert chosen([*batch, candidate("other", arrived=9)]) == ["b0", "b1", "other"]
    other_batch = [of_batch(f"c{i}", 1, batch="c", arrived=5 + i) for i in range(2)]
    assert chosen([*batch, *other_batch]) == ["b0", "b1", "c0"]


def test_a_batch_counts_tasks_and_not_their_pictures():
    x, y = of_batch("x", 1, arrived=0), of_batch("y", 1, arrived=1)
    batch = [replace(task, sample_id=SampleId(task.sample_id.task_id, i)) for task in (x, y) for i in range(3)]
    assert chosen(batch) == ["x", "x", "x"]


def test_a_batch_of_p0_keeps_its_limit_and_a_limit_above_the_tasks_changes_nothing():
    assert chosen([of_batch(f"p0-{i}", 3, arrived=i, priority=0) for i in range(5)]) == ["p0-0", "p0-1", "p0-2"]
    assert len(chosen([of_batch(f"b{i}", 16, arrived=i) for i in range(8)])) == 8


def test_who_waits_for_its_own_batch_does_not_starve_and_pushes_nobody_aside():
    batch = [of_batch("first", 1, arrived=0), of_batch("second", 1, arrived=1, passed_over=99)]
    assert chosen([*batch, candidate("p0", "b", priority=0, arrived=9)]) == ["p0"]
    assert chosen(batch) == ["first"]
    assert chosen(batch[1:]) == ["second"]


@pytest.mark.parametrize("buckets", [(0, 2), (4, 2), (2, 2)])
def test_buckets_that_are_not_ascending_are_refused(buckets):
    with pytest.raises(ValueError, match=r"Policy\.row_buckets"):
        Policy(row_buckets=buckets)


def test_who_was_passed_over_too_often_comes_next():
    samples = [candidate("p0", priority=0, arrived=2), candidate("left", "b", arrived=1, passed_over=5)]
    assert chosen(samples) == ["left"]


@pytest.mark.parametrize("seed", range(5))
def test_nobody_starves_under_endless_p0_and_a_stream_of_keys(seed):
    """Each sample gets a pass at least every so often, whatever arrives."""
    random.seed(seed)
    waiting = {}
    longest = crowd = 0
    for turn in range(600):
        if turn % 3 == 0:
            waiting[f"s{turn}"] = candidate(
                f"s{turn}", random.choice("abc"), arrived=turn, priority=random.choice([0, 2, 2])
            )
        crowd = max(crowd, len(waiting))
        picked = set(chosen(list(waiting.values()), limit=4))
        for name, sample in list(waiting.items()):
            passed = 0 if name in picked else sample.passed_over + 1
            longest = max(longest, passed)
            waiting[name] = replace(sample, passed_over=passed)
            if name in picked and random.random() < 0.2:
                del waiting[name]
    assert longest <= POLICY.patience + crowd


@pytest.mark.parametrize(
    ("now", "priority", "expected"),
    [
        ({"same_key": 0, "same_key_urgent": 0, "admitted": 0}, 2, 8),
        ({"same_key": 8, "same_key_urgent": 0, "admitted": 8}, 2, 0),
        ({"same_key": 8, "same_key_urgent": 0, "admitted": 8}, 0, 8),
        ({"same_key": 8, "same_key_urgent": 8, "admitted": 8}, 0, 0),
        ({"same_key": 0, "same_key_urgent": 0, "admitted": 30}, 2, 2),
        ({"same_key": 0, "same_key_urgent": 0, "admitted": 32}, 1, 0),
        ({"same_key": 0, "same_key_urgent": 0, "admitted": 32}, 0, 8),
    ],
)
def test_room(now, priority, expected):
    assert room(**now, limit=8, capacity=32, priority=priority) == expected


def test_beside_p0_others_come_only_as_far_as_they_may_be_paused():
    now = {"same_key": 0, "same_key_urgent": 0, "admitted": 1, "limit": 8, "capacity": 32}
    assert room(**now, priority=2, may_pause=3) == 3
    assert room(**now, priority=2, may_pause=30) == 8
    assert room(**now, priority=0, may_pause=0) == 8


def paused(name, *, priority=2, arrived=0.0, held=10, returned=0):
    return PausedTask(name, priority, arrived, held, returned)


def test_paused_work_within_its_memory_stays():
    assert tasks_to_evict([paused("a"), paused("b")], 20) == []
    assert tasks_to_evict([], 0) == []


def test_beyond_it_the_lowest_class_leaves_first_and_of_that_the_youngest():
    tasks = [
        paused("p1", priority=1, arrived=9),
        paused("old", arrived=1),
        paused("young", arrived=2),
        paused("p3", priority=3),
    ]
    assert tasks_to_evict(tasks, 30) == ["p3"]
    assert tasks_to_evict(tasks, 29) == ["p3", "young"]
    assert tasks_to_evict(tasks, 10) == ["p3", "young", "old"]


def test_one_paused_task_stays_whatever_it_holds_and_p0_always_does():
    assert tasks_to_evict([paused("huge", held=10**12)], 0) == []
    tasks = [paused("p0", priority=0), paused("old", arrived=1), paused("young", arrived=2)]
    assert tasks_to_evict(tasks, 0) == ["young"]


def test_a_task_that_went_back_before_stays_before_those_that_did_not():
    tasks = [paused("again", priority=3, arrived=9, returned=1), paused("p1", priority=1), paused("p2")]
    assert tasks_to_evict(tasks, 10) == ["p2", "p1"]


@pytest.mark.parametrize("seed", range(5))
def test_every_task_is_kept_once_it_went_back_more_often_than_the_others(seed):
    """Endless P0 and a memory for one: whoever came first has left within as many rounds as tasks came before."""
    random.seed(seed)
    tasks = {f"t{i}": paused(f"t{i}", priority=random.choice([1, 2, 3]), arrived=i) for i in range(6)}
    for rounds in range(40):
        gone = tasks_to_evict(list(tasks.values()), 0)
        assert len(gone) == len(tasks) - 1
        back = {
            name: paused(name, priority=tasks[name].priority, arrived=rounds, returned=tasks[name].returned + 1)
            for name in gone
        }
        tasks = back | {f"new{rounds}": paused(f"new{rounds}", priority=1, arrived=rounds)}
        if not any(name.startswith("t") for name in tasks):
            return
    raise AssertionError(f"starved: {tasks}")
