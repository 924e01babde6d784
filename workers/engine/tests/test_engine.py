"""Joining, pausing, cancelling, failing: what happens to one sample leaves the others as they are."""

import threading

import pytest
import torch

from workers.engine import Cancelled, Engine, EngineConfig, InvalidSample, ModelUnavailable, Progress
from workers.engine.batching.limits import RECOVER_AFTER
from workers.engine.tests.driving import Run, run_to_end, sample, worst

EQUAL = 1e-4


@pytest.fixture
def alone(mini_pool):
    """A sample's picture in an engine of its own."""
    return lambda request: run_to_end(Engine(mini_pool), [request]).images[request.sample_id]


@pytest.fixture
def unet(mini_pool):
    """Adds a check before each pass of the real UNet and takes it away after the test."""
    module = mini_pool.get("mini@1").heavy["unet"].module
    handles = []
    yield lambda check: handles.append(
        module.register_forward_pre_hook(lambda _, args, kwargs: check(kwargs), with_kwargs=True)
    )
    for handle in handles:
        handle.remove()


def test_a_sample_joins_and_leaves_a_running_batch(engine, alone):
    long, short = sample(steps=6, seed=1), sample(steps=2, seed=2, text="a blue star")
    engine.admit(long)
    run = Run()
    run.take(engine.step())
    run.take(engine.step())
    engine.admit(short)
    rest = run_to_end(engine)
    run.take(rest.events)
    order = [event.sample_id for event in run.events if not isinstance(event, Progress)]
    assert order == [short.sample_id, long.sample_id]
    for request in (long, short):
        assert worst(run.images[request.sample_id], alone(request)) <= EQUAL


def test_p0_starts_within_one_step_and_the_paused_batch_resumes_to_the_same_pictures(engine, alone):
    others = [sample(steps=4, seed=i) for i in range(3)]
    urgent = sample(steps=3, seed=9, priority=0)
    for request in others:
        engine.admit(request)
    engine.step()
    engine.admit(urgent)
    stepped = {event.sample_id for event in engine.step() if isinstance(event, Progress)}
    assert stepped == {urgent.sample_id}, "nobody slows the P0 down"
    run = run_to_end(engine)
    for request in [*others, urgent]:
        assert worst(run.images[request.sample_id], alone(request)) <= EQUAL


def test_cancel_takes_effect_at_the_next_step_and_spares_the_others(engine, alone):
    gone, stays, waiting = sample(steps=5, seed=1), sample(steps=3, seed=2), sample(seed=3)
    engine.admit(gone)
    engine.admit(stays)
    engine.step()
    engine.cancel(gone.sample_id)
    engine.admit(waiting)
    engine.cancel(waiting.sample_id)
    engine.cancel("never seen")
    events = engine.step()
    assert {event.sample_id for event in events if isinstance(event, Cancelled)} == {
        gone.sample_id,
        waiting.sample_id,
    }
    assert all(event.sample_id == stays.sample_id for event in events if isinstance(event, Progress))
    assert [request.sample_id for request in engine.running()] == [stays.sample_id]
    assert worst(run_to_end(engine).images[stays.sample_id], alone(stays)) <= EQUAL


def test_a_fault_in_a_shared_pass_fails_its_cause_alone(engine, alone, unet):
    def refuse_nan(kwargs):
        if kwargs["sample"].isnan().any():
            raise RuntimeError("not a number")

    unet(refuse_nan)
    healthy = [sample(seed=1), sample(seed=2, sampler="ddim")]
    sick = sample(seed=3, cfg_scale=float("inf"))
    run = run_to_end(engine, [*healthy, sick])
    assert str(run.errors[sick.sample_id]) == "not a number"
    assert set(run.images) == {request.sample_id for request in healthy}
    for request in healthy:
        assert worst(run.images[request.sample_id], alone(request)) <= EQUAL


def test_a_wrong_request_fails_with_what_would_be_right_and_is_not_retried(engine):
    wrong, right = sample(sampler="magic"), sample()
    run = run_to_end(engine, [wrong, right])
    error = run.errors[wrong.sample_id]
    assert isinstance(error, InvalidSample)
    assert "euler_a" in str(error)
    assert not next(event for event in run.events if event.sample_id == wrong.sample_id).retryable
    assert right.sample_id in run.images


def test_an_unknown_model_fails_its_samples_only(engine):
    lost, right = sample(model="nobody@1"), sample()
    run = run_to_end(engine, [lost, right])
    assert isinstance(run.errors[lost.sample_id], ModelUnavailable)
    assert right.sample_id in run.images


def test_out_of_memory_halves_the_limit_repeats_the_step_and_fails_nobody(engine, alone, unet):
    def too_small_for_four(kwargs):
        if len(kwargs["sample"]) > 4:
            raise torch.OutOfMemoryError("allocator gave up")

    unet(too_small_for_four)
    requests = [sample(seed=i, steps=2 + i) for i in range(5)]
    run = run_to_end(engine, requests)
    assert run.errors == {}
    assert engine.limits.rows(requests[0].batch_key, 64, 64) <= 4
    for request in requests:
        assert run.progress(request.sample_id) == [(i + 1, request.steps) for i in range(request.steps)]
        assert worst(run.images[request.sample_id], alone(request)) <= EQUAL
    for _ in range(4 * RECOVER_AFTER):
        engine.limits.record_success(requests[0].batch_key, 64, 64)
    assert engine.limits.rows(requests[0].batch_key, 64, 64) == 32


def test_one_image_that_never_fits_fails_with_its_reason(engine, mini_pool, unet, monkeypatch):
    monkeypatch.setattr(mini_pool, "lower_precision", lambda *_: False)  # the pool serves other tests as well

    def never(kwargs):
        raise torch.OutOfMemoryError("allocator gave up")

    unet(never)
    request = sample()
    run = run_to_end(engine, [request])
    assert "does not fit" in str(run.errors[request.sample_id])


def test_alone_means_alone(engine, unet):
    rows = []
    unet(lambda kwargs: rows.append(len(kwargs["sample"])))
    run_to_end(engine, [sample(steps=2, deterministic=True), sample(steps=2, alone=True), sample(steps=2)])
    assert rows == [2] * 6


def test_room_counts_those_admitted(mini_pool):
    engine = Engine(mini_pool, EngineConfig(batch_limits={2048: 3}))
    assert engine.room("mini@1", 64, 64, 2) == 3
    engine.admit(sample())
    assert engine.room("mini@1", 64, 64, 2) == 2
    assert engine.room("mini@1", 64, 64, 0) == 3
    assert engine.room("mini@1", 512, 512, 2) == 3


def test_discard_all_forgets_everybody(engine):
    engine.admit(sample())
    engine.step()
    engine.discard_all()
    assert engine.idle
    assert engine.step() == []


def test_another_thread_is_refused(engine):
    engine.step()
    errors = []

    def strange():
        try:
            engine.step()
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=strange)
    thread.start()
    thread.join()
    assert errors == ["an engine belongs to the thread that stepped it first"]
