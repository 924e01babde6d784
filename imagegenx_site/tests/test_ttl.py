import itertools
import threading
import time

import pytest

from imagegenx_site.ttl import TtlMap, TtlValue


def test_a_value_is_loaded_when_it_is_old_or_dropped() -> None:
    count = itertools.count()
    value = TtlValue(lambda: next(count), 60)
    assert [value.get(), value.get()] == [0, 0]
    value.drop()
    assert [value.get(), value.get()] == [1, 1]
    value.seconds = 0
    assert [value.get(), value.get()] == [2, 3]


def test_one_thread_loads_while_the_others_wait() -> None:
    loads: list[int] = []

    def load() -> str:
        loads.append(1)
        time.sleep(0.05)
        return "x"

    value, answers = TtlValue(load, 60), []
    threads = [threading.Thread(target=lambda: answers.append(value.get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (loads, answers) == ([1], ["x"] * 8)


def test_what_the_process_changes_itself_counts_until_the_next_load() -> None:
    value = TtlValue(lambda: 10, 60)
    value.adjust(lambda held: held + 1)  # nothing is held yet
    assert value.get() == 10
    value.adjust(lambda held: held + 1)
    assert value.get() == 11
    value.drop()
    assert value.get() == 10


def test_a_load_that_fails_leaves_nothing() -> None:
    divisors = iter([0, 1])
    value = TtlValue(lambda: 1 // next(divisors), 60)
    with pytest.raises(ZeroDivisionError):
        value.get()
    assert value.get() == 1


def test_a_map_holds_each_key_for_its_time_and_a_bounded_number() -> None:
    loads: list[str] = []

    def load(key: str) -> str:
        loads.append(key)
        return key.upper()

    held = TtlMap(load, 2)
    assert [held.get(key, 60) for key in ("a", "a", "b")] == ["A", "A", "B"]
    assert held.get("a", 0) == "A"
    assert loads == ["a", "b", "a"]
    held.get("c", 60)
    held.get("b", 60)
    assert loads == ["a", "b", "a", "c", "b"]


def test_what_was_loaded_during_a_drop_is_not_held() -> None:
    loads: list[str] = []

    def load(key: str) -> int:
        loads.append(key)
        if len(loads) == 1:
            held.drop()  # another thread changes the truth after this one has read it
        return len(loads)

    held = TtlMap[str, int](load, 10)
    assert [held.get("a", 60), held.get("a", 60), held.get("a", 60)] == [1, 2, 2]
