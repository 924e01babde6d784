"""The spool, cut off in every single step; and a store that is away for an hour."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from storage import disk, keys
from storage.drivers import Driver
from storage.store import SpooledStore, Store, images

SPOOLED, STEP_S = 120, 30.0  # pictures that come in the hour, and the time between two


def picture(task_id: UUID, index: int) -> tuple[str, bytes]:
    data = b"picture %d" % index
    return keys.image_key(task_id, index, hashlib.sha256(data).hexdigest(), "image/webp"), data


def dies_at(step: int, work: Callable[[], object]) -> bool:
    """Run `work` in a process that ends, without any clean-up, right before its `step`-th change to the disk; whether
    it ended before the work was done.
    """
    child = os.fork()
    if child == 0:
        left = [step]

        def cut(function: Callable) -> Callable:
            def called(*args: object, **kwargs: object) -> object:
                left[0] -= 1
                if left[0] == 0:
                    os._exit(9)
                return function(*args, **kwargs)

            return called

        for name in ("fsync", "replace", "open", "mkdir", "rmdir", "unlink", "utime"):
            setattr(os, name, cut(getattr(os, name)))
        vars(disk)["open"] = cut(open)
        try:
            work()
        except BaseException:
            os._exit(3)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 9


def every_step(work: Callable[[int], Callable[[], object]], check: Callable[[int], None]) -> int:
    """Cut the work off before its first step, then its second, until it ends by itself; how many steps it has."""
    step = 1
    while dies_at(step, work(step)):
        check(step)
        step += 1
    check(step)
    return step - 1


def test_a_crash_at_any_step_of_spooling_leaves_all_or_nothing(stores_on_disk: Path, task_id: UUID) -> None:
    store = images()

    def check(step: int) -> None:
        key, data = picture(task_id, step)
        assert not store.spool.has(key) or store.read(key) == data
        assert store.spool.entries() == sorted(
            store.spool.entries(), key=lambda one: int(one.rsplit("/")[-1].split("-")[0])
        )

    steps = every_step(lambda step: lambda: store.spool.add(*picture(task_id, step)), check)
    assert steps >= 4
    assert store.spool.has(picture(task_id, steps + 1)[0])  # the run that was not cut off


def test_a_crash_at_any_step_of_the_sync_loses_and_duplicates_nothing(stores_on_disk: Path, task_id: UUID) -> None:
    """Three pictures wait; the synchronising process dies in each of its steps; then one brings them home."""
    store = images()

    def prepared(step: int) -> Callable[[], object]:
        for index in range(3):
            store.spool.add(*picture(task_id, 10 * step + index))
        return store.sync

    def check(step: int) -> None:
        wanted = dict(picture(task_id, 10 * step + index) for index in range(3))
        assert {key: store.read(key) for key in wanted} == wanted  # readable all along
        store.sync()
        assert store.spool.entries() == []
        plain = Store("images", store.driver)
        assert {key: plain.read(key) for key in wanted} == wanted
        assert len([found for found in plain.list("") if found.key in wanted]) == 3

    assert every_step(prepared, check) >= 9


@pytest.fixture
def away(stores_on_disk: Path) -> Callable[[], None]:
    """The disk store is unusable until the answer is called."""
    wall = stores_on_disk / "media"
    wall.write_bytes(b"")
    return wall.unlink


def test_the_store_is_down_for_an_hour(
    away: Callable[[], None], task_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour in fast motion: the spool's clock moves on with every picture, so that the store is tried anew as
    often as it would be.
    """
    now = [time.time() - 3600.0]
    pauses: list[float] = []
    monkeypatch.setattr("storage.spool.time.time", lambda: now[0])
    monkeypatch.setattr("storage.store.time.sleep", pauses.append)
    store = images()
    sent = [picture(task_id, index) for index in range(SPOOLED)]
    for key, data in sent:
        assert store.put(key, data).spooled
        path = store.spool._path(key)
        os.utime(path, (now[0], now[0]))
        assert store.sync() == 0
        os.utime(store.spool._down, (now[0], now[0]))  # touched by the real clock
        now[0] += STEP_S
    state = store.spool.state()
    assert (state.files, round(state.oldest_seconds)) == (SPOOLED, 3600)
    assert len(pauses) == 2 * SPOOLED  # each found the store untried for a while and tried three times
    assert all(store.read(key) == data for key, data in sent)
    away()
    arrived = brought(store, monkeypatch)
    assert arrived == [key for key, _ in sent]
    plain = Store("images", store.driver)
    assert {found.key: plain.read(found.key) for found in plain.list("")} == dict(sent)
    assert store.spool.state().files == 0
    assert not store.put(*picture(task_id, SPOOLED)).spooled


def brought(store: SpooledStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys in the order in which they reached the store."""
    order: list[str] = []
    write = type(store.driver).write

    def noted(self: Driver, key: str, data: bytes, content_type: str) -> None:
        order.append(key)
        write(self, key, data, content_type)

    monkeypatch.setattr(type(store.driver), "write", noted)
    assert store.sync() == SPOOLED
    monkeypatch.setattr(type(store.driver), "write", write)
    return order
