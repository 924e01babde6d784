"""Pictures that are decoded in threads of their own, beside the steps of others."""

import itertools
import threading

import numpy as np
import pytest

from workers.engine import Engine, EngineConfig, Finished
from workers.engine.interception import Phase
from workers.engine.tests.driving import Run, run_to_end, sample


@pytest.fixture
def beside(mini_pool):
    engine = Engine(mini_pool, EngineConfig(decoders=2))
    yield engine
    engine.discard_all()


@pytest.fixture
def decoder(mini_pool):
    """Adds a check before each pass of the real decoder and takes it away after the test."""
    module = mini_pool.get("mini@1").components["vae"].decoder
    handles = []
    yield lambda check: handles.append(module.register_forward_pre_hook(lambda _, arguments: check(arguments[0])))
    for handle in handles:
        handle.remove()


@pytest.fixture
def gate(decoder):
    """Decoders wait for it; `entered` counts those that do."""
    opened, entered = threading.Event(), threading.Semaphore(0)

    def wait(_latents):
        entered.release()
        assert opened.wait(30)

    decoder(wait)
    opened.entered = entered
    yield opened
    opened.set()


def test_the_pictures_are_those_of_the_engines_own_thread(engine, beside):
    requests = [sample(steps=1 + seed % 3, seed=seed) for seed in range(5)]
    own, threads = run_to_end(engine, requests), run_to_end(beside, requests)
    for request in requests:
        assert np.abs(own.images[request.sample_id] - threads.images[request.sample_id]).max() < 1e-5


def test_others_step_on_and_the_engine_is_woken(beside, gate):
    woken = threading.Event()
    beside.wake = woken.set
    first, second = sample(steps=1), sample(steps=3)
    run = Run()
    for request in (first, second):
        beside.admit(request)
    for _ in range(3):
        run.take(beside.step())
    assert run.progress(second.sample_id)[-1] == (3, 3)
    assert not run.images
    assert not woken.is_set()
    gate.set()
    assert woken.wait(30)
    run.take(run_to_end(beside).events)
    assert run.images.keys() == {first.sample_id, second.sample_id}


def test_no_more_pictures_at_once_than_threads(beside, gate):
    for seed in range(4):
        beside.admit(sample(steps=1, seed=seed))
    for _ in range(3):
        beside.step()
    assert gate.entered.acquire(timeout=30)
    assert gate.entered.acquire(timeout=30)
    assert not gate.entered.acquire(timeout=0.1)
    assert len(beside._suspended(Phase.DECODE)) == 2


def test_large_pictures_are_decoded_one_at_a_time(beside, gate):
    for seed in range(2):
        beside.admit(sample(steps=1, seed=seed, width=1024, height=1024))
    for _ in range(3):
        beside.step()
    assert gate.entered.acquire(timeout=30)
    assert not gate.entered.acquire(timeout=0.1)


def test_p0_gets_the_next_free_thread(beside, gate):
    requests = [sample(steps=1, seed=seed) for seed in range(3)]
    for request in requests:
        beside.admit(request)
    beside.step()
    urgent = sample(steps=1, seed=9, priority=0)
    beside.admit(urgent)
    beside.step()
    gate.set()
    ended = [event.sample_id for event in run_to_end(beside).events if isinstance(event, Finished)]
    assert ended.index(urgent.sample_id) < ended.index(requests[2].sample_id)


def test_what_does_not_fit_beside_others_is_decoded_alone(beside, decoder):
    failed = []

    def full(_latents):
        if threading.current_thread() is not threading.main_thread():
            failed.append(threading.current_thread().name)
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")

    decoder(full)
    request = sample(steps=1)
    assert run_to_end(beside, [request]).images.keys() == {request.sample_id}
    assert len(failed) == 1


def test_another_error_ends_its_sample_alone(beside, decoder):
    passes = itertools.count()

    def fail_once(_latents):
        if next(passes) == 0:
            raise ValueError("odd")

    decoder(fail_once)
    run = run_to_end(beside, [sample(steps=1, seed=seed) for seed in range(2)])
    assert [str(error) for error in run.errors.values()] == ["odd"]
    assert len(run.images) == 1


def test_a_sample_that_is_cancelled_while_it_is_decoded(beside, gate):
    leaving, staying = sample(steps=1, seed=1), sample(steps=1, seed=2)
    run = Run()
    for request in (leaving, staying):
        beside.admit(request)
    run.take(beside.step())
    beside.cancel(leaving.sample_id)
    run.take(beside.step())
    assert run.cancelled == {leaving.sample_id}
    gate.set()
    run.take(run_to_end(beside).events)
    assert run.images.keys() == {staying.sample_id}


@pytest.mark.parametrize(("count", "ok"), [(-1, False), (0, True)])
def test_the_number_of_threads(count, ok):
    if ok:
        assert EngineConfig(decoders=count).decoders == count
        return
    with pytest.raises(ValueError, match="decoders"):
        EngineConfig(decoders=count)
