"""The order in which a worker after the GPU reads its queues, on numbers."""

from collections import Counter
from collections.abc import Callable, Mapping

import pytest

from generation.queue.class_turns import ClassTurns
from generation.queue.classes import class_of, queue_of, queues_of

SHARES = (5, 3, 1, 1)
P0, P1, P2, P3, PLAIN = QUEUES = queues_of("cpu")


def turns() -> ClassTurns:
    made = ClassTurns(SHARES)
    made.set_queues(QUEUES)
    return made


def work(turns: ClassTurns, waits: Callable[[str], bool], takes: Mapping[str, float], seconds: float) -> list[str]:
    """One thread for so long: which queues it read, one after the other."""
    read, now = [], 0.0
    while now < seconds:
        queue = next(queue for queue in turns.order() if waits(queue))
        turns.took(queue)
        charged = turns.begin(queue)
        now += takes[queue]
        turns.end(queue, charged, takes[queue])
        read.append(queue)
    return read


def test_names() -> None:
    assert QUEUES == ("cpu.p0", "cpu.p1", "cpu.p2", "cpu.p3", "cpu")
    assert [class_of(queue) for queue in QUEUES] == [0, 1, 2, 3, None]
    assert queue_of("io", 3) == "io.p3"


@pytest.mark.parametrize("p2_takes", [0.1, 1.0, 60.0])
def test_classes_that_all_wait_get_their_shares_of_the_time_however_long_their_messages_are(p2_takes: float) -> None:
    takes = dict.fromkeys(QUEUES, 0.1) | {P2: p2_takes}
    read = work(turns(), lambda queue: queue != PLAIN, takes, 6000)
    time = {queue: takes[queue] * count / 600 for queue, count in Counter(read).items()}
    assert time == pytest.approx({P0: 5, P1: 3, P2: 1, P3: 1}, rel=0.12)


def test_messages_without_a_class_are_put_off_by_nobody() -> None:
    read = work(turns(), lambda _: True, dict.fromkeys(QUEUES, 0.1), 150)
    assert Counter(read)[PLAIN] == pytest.approx(Counter(read)[P0], abs=2)
    assert read[:2] == [P0, PLAIN]


def test_what_is_urgent_comes_first_whenever_it_has_waited_for_less_than_its_share() -> None:
    made = turns()
    work(made, lambda queue: queue == P2, dict.fromkeys(QUEUES, 30.0), 3000)
    takes, p0_left = dict.fromkeys(QUEUES, 30.0) | {P0: 0.1}, 20
    for _ in range(20):  # one urgent message after each long one
        assert work(made, lambda queue: queue in (P0, P2), takes, 0.01) == [P0]
        work(made, lambda queue: queue == P2, takes, 1)
        p0_left -= 1
    assert p0_left == 0


def test_a_class_that_did_not_wait_saves_nothing_up() -> None:
    made = turns()
    work(made, lambda queue: queue == P2, dict.fromkeys(QUEUES, 1.0), 1000)
    read = work(made, lambda queue: queue in (P2, P3), dict.fromkeys(QUEUES, 1.0), 20)
    assert Counter(read) == pytest.approx({P2: 10, P3: 10}, abs=1)


def test_a_worker_with_many_threads_does_not_give_all_of_them_to_one_class() -> None:
    made = turns()
    made.took(made.order()[0])
    held = []
    for _ in range(11):
        queue = next(queue for queue in made.order() if queue != PLAIN)
        made.took(queue)
        held.append((queue, made.begin(queue)))
    assert Counter(queue for queue, _ in held) == pytest.approx({P0: 5, P1: 3, P2: 1, P3: 1}, abs=1)
    assert held[0][0] == P0


def test_what_ends_sooner_than_expected_is_no_credit_towards_those_who_waited() -> None:
    made = turns()
    work(made, lambda queue: queue == P3, dict.fromkeys(QUEUES, 60.0), 120)
    charged = made.begin(P3)
    work(made, lambda queue: queue == P0, {P0: 0.1}, 500)
    made.end(P3, charged, 0.1)
    read = work(made, lambda queue: queue in (P0, P3), dict.fromkeys(QUEUES, 0.1), 6)
    assert Counter(read) == pytest.approx({P0: 50, P3: 10}, abs=2)
