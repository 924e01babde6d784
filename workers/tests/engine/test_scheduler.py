"""The policy with plain values: who shares the next forward pass, and who may board."""

import random

import pytest

from workers.engine.scheduler import Parked, Policy, choose, room

POLICY = Policy(urgent_cap=2, patience=5)


def parked(name, key="a", *, rows=2, priority=2, arrived=0.0, passed_over=0):
    return Parked(name, key, rows, priority, arrived, passed_over)


def chosen(samples, limit=16, policy=POLICY):
    return [sample.sample_id for sample in choose(samples, lambda _: limit, policy)]


def test_nobody_parked_nobody_chosen():
    assert chosen([]) == []


def test_the_key_of_the_oldest_is_served_oldest_first():
    samples = [parked("young", "b", arrived=3), parked("old", "a", arrived=1), parked("mate", "a", arrived=2)]
    assert chosen(samples) == ["old", "mate"]


def test_rows_and_not_samples_are_limited():
    samples = [parked("one", rows=1, arrived=1), parked("two", arrived=2), parked("three", arrived=3)]
    assert chosen(samples, limit=3) == ["one", "two"]


def test_one_sample_runs_however_many_rows_it_has():
    assert chosen([parked("big", rows=8)], limit=2) == ["big"]


def test_p0_pauses_other_keys_and_shares_with_one_of_its_own():
    samples = [parked(f"p2-{i}", arrived=i) for i in range(5)]
    urgent = parked("p0", arrived=9, priority=0)
    assert chosen([*samples, urgent]) == ["p0", "p2-0"]
    other_key = parked("p0", "b", arrived=9, priority=0)
    assert chosen([*samples, other_key]) == ["p0"]


def test_many_p0_share_beyond_the_cap():
    samples = [parked(f"p0-{i}", arrived=i, priority=0) for i in range(4)]
    assert chosen([*samples, parked("p2", arrived=-1)]) == ["p0-0", "p0-1", "p0-2", "p0-3"]


def test_rows_are_rounded_down_to_a_bucket_and_the_rest_waits():
    buckets = Policy(row_buckets=(1, 2, 4, 8))
    samples = [parked(str(i), arrived=i) for i in range(5)]
    assert chosen(samples, policy=buckets) == ["0", "1", "2", "3"]
    assert chosen([parked("odd", rows=3)], policy=buckets) == ["odd"]


def test_who_was_passed_over_too_often_comes_next():
    samples = [parked("p0", priority=0, arrived=2), parked("left", "b", arrived=1, passed_over=5)]
    assert chosen(samples) == ["left"]


@pytest.mark.parametrize("seed", range(5))
def test_nobody_starves_under_endless_p0_and_a_stream_of_keys(seed):
    """Each sample gets a pass at least every so often, whatever arrives."""
    random.seed(seed)
    waiting = {}
    longest = crowd = 0
    for turn in range(600):
        if turn % 3 == 0:
            waiting[f"s{turn}"] = parked(
                f"s{turn}", random.choice("abc"), arrived=turn, priority=random.choice([0, 2, 2])
            )
        crowd = max(crowd, len(waiting))
        picked = set(chosen(list(waiting.values()), limit=4))
        for name, sample in list(waiting.items()):
            passed = 0 if name in picked else sample.passed_over + 1
            longest = max(longest, passed)
            waiting[name] = Parked(name, sample.key, 2, sample.priority, sample.arrived, passed)
            if name in picked and random.random() < 0.2:
                del waiting[name]
    assert longest <= POLICY.patience + crowd


@pytest.mark.parametrize(
    ("aboard", "priority", "expected"),
    [
        ({"same_key": 0, "same_key_urgent": 0, "on_board": 0}, 2, 8),
        ({"same_key": 8, "same_key_urgent": 0, "on_board": 8}, 2, 0),
        ({"same_key": 8, "same_key_urgent": 0, "on_board": 8}, 0, 8),
        ({"same_key": 8, "same_key_urgent": 8, "on_board": 8}, 0, 0),
        ({"same_key": 0, "same_key_urgent": 0, "on_board": 30}, 2, 2),
        ({"same_key": 0, "same_key_urgent": 0, "on_board": 32}, 1, 0),
        ({"same_key": 0, "same_key_urgent": 0, "on_board": 32}, 0, 8),
    ],
)
def test_room(aboard, priority, expected):
    assert room(**aboard, limit=8, capacity=32, priority=priority) == expected
