"""Models in memory: on demand, by age, by idleness, by revision; and what a failed load leaves behind."""

import gc
import shutil
from dataclasses import replace

import psutil
import pytest

from workers.engine import Engine, Finished, ModelPool, ModelSpec, ModelUnavailable, PoolConfig, Progress
from workers.engine.requests import SampleId
from workers.engine.tests import tiny_models
from workers.engine.tests.driving import Run, run_to_end, sample, worst


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "sd"
    tiny_models.save_stable_diffusion(folder)
    return folder


@pytest.fixture
def clock():
    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    return Clock()


def spec(folder, name="a", revision="1", **changes):
    return ModelSpec(name, revision, "sd15", str(folder), **changes)


def pool_of(*specs, clock=None, **config):
    pool = ModelPool(PoolConfig(device="cpu", **config), *([clock] if clock else []))
    for one in specs:
        pool.ensure(one)
    return pool


def test_a_model_loads_on_demand_while_others_step_on(folder):
    pool = pool_of(spec(folder), spec(folder, "b"))
    pool.preload(["a@1"])
    engine = Engine(pool)
    running, late = sample(model="a@1", steps=30), sample(model="b@1", steps=2)
    engine.admit(running)
    engine.admit(late)
    run = Run()
    run.take(engine.step())
    assert run.progress(running.sample_id) == [(1, 30)], "the running one did not wait for the load"
    run.take(run_to_end(engine).events)
    assert set(run.images) == {running.sample_id, late.sample_id}
    assert set(pool.loaded()) == {"a@1", "b@1"}


def test_least_recently_used_leave_when_the_memory_is_short(folder, clock):
    pool = pool_of(*(spec(folder, name) for name in "abc"), clock=clock)
    pool.preload(["a@1"])
    one = pool.loaded()["a@1"]
    assert one > 100_000
    tight = pool_of(*(spec(folder, name) for name in "abc"), clock=clock, memory_bytes=int(2.5 * one))
    for key in ("a@1", "b@1", "a@1", "c@1"):
        clock.now += 1
        tight.get(key)
        assert tight.borrow(key) is not None
        tight.give_back(key)
    assert set(tight.loaded()) == {"a@1", "c@1"}


def test_a_model_in_use_stays_beyond_the_budget(folder):
    pool = pool_of(spec(folder), spec(folder, "b"), memory_bytes=1)
    pool.get("a@1")
    assert pool.borrow("a@1") is not None
    pool.get("b@1")
    assert set(pool.loaded()) == {"a@1", "b@1"}
    pool.release("a@1")
    assert "a@1" in pool.loaded()


def test_idle_models_leave_and_come_back(folder, clock):
    pool = pool_of(spec(folder), clock=clock, idle_unload_s=300)
    engine = Engine(pool)
    pool.preload(["a@1"])
    clock.now = 299
    assert pool.unload_idle() == []
    clock.now = 301
    assert pool.unload_idle() == ["a@1"]
    assert pool.loaded() == {}
    request = sample(model="a@1", steps=1)
    assert request.sample_id in run_to_end(engine, [request]).images


def test_a_new_revision_takes_over_without_touching_the_running_sample(folder, tmp_path):
    changed = tmp_path / "changed"
    tiny_models.save_stable_diffusion(changed, prediction="v_prediction")
    pool = pool_of(spec(folder))
    pool.preload(["a@1"])
    engine = Engine(pool)
    old = sample(model="a@1", steps=4, seed=1)
    engine.admit(old)
    engine.step()
    pool.ensure(spec(changed, revision="2"))
    new = sample(model="a@2", steps=4, seed=1)
    run = run_to_end(engine, [new])
    assert worst(run.images[old.sample_id], run.images[new.sample_id]) > 1e-2
    assert set(pool.loaded()) == {"a@2"}, "the old one left with its last sample"


def test_a_failed_load_fails_its_samples_with_the_reason_and_is_tried_again(folder, tmp_path):
    broken = tmp_path / "broken"
    pool = pool_of(spec(broken), spec(folder, "b"))
    engine = Engine(pool)
    lost, right = sample(model="a@1"), sample(model="b@1")
    run = run_to_end(engine, [lost, right])
    assert isinstance(run.errors[lost.sample_id], ModelUnavailable)
    assert str(broken) in str(run.errors[lost.sample_id])
    assert right.sample_id in run.images
    shutil.copytree(folder, broken)
    again = replace(lost, sample_id=SampleId("again", 0))
    assert again.sample_id in run_to_end(engine, [again]).images


@pytest.mark.parametrize(("family", "precision"), [("unheard-of", "auto"), ("sd15", "fp4")])
def test_a_wrong_entry_is_named(folder, family, precision):
    pool = pool_of(ModelSpec("a", "1", family, str(folder), precision))
    with pytest.raises(ModelUnavailable, match=r"unheard-of|fp4"):
        pool.get("a@1")


def test_half_precision_runs_and_is_near(folder):
    pool = pool_of(spec(folder), spec(folder, "half", precision="bf16"))
    engine = Engine(pool)
    requests = [sample(model="a@1", seed=1), sample(model="half@1", seed=1), sample(model="half@1", seed=2)]
    run = run_to_end(engine, requests)
    assert run.errors == {}
    assert pool.loaded()["half@1"] < 0.6 * pool.loaded()["a@1"]
    assert 0 < worst(run.images[requests[0].sample_id], run.images[requests[1].sample_id]) < 0.1


def test_memory_does_not_grow_over_five_hundred_tasks(folder):
    pool = pool_of(spec(folder))
    pool.preload(["a@1"])
    engine = Engine(pool)

    def run(count):
        for start in range(0, count, 10):
            images = 0
            for number in range(10):
                engine.admit(sample(model="a@1", steps=1, cfg_scale=1, seed=start + number, text=f"cat {start % 50}"))
            while not engine.idle:
                images += sum(isinstance(event, Finished) for event in engine.step())
            assert images == 10
        gc.collect()
        return psutil.Process().memory_info().rss

    before = run(100)
    after = run(500)
    print(f"grown by {(after - before) / 2**20:.1f} MiB over 500 tasks")
    assert after - before < 30 * 2**20


def test_a_cancelled_sample_frees_its_tensors(folder):
    import torch

    pool = pool_of(spec(folder))
    pool.preload(["a@1"])
    engine = Engine(pool)
    for _ in range(4):
        engine.admit(sample(model="a@1", steps=50))
    for _ in range(2):
        assert any(isinstance(event, Progress) for event in engine.step())

    def tensors():
        gc.collect()
        return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())

    while_running = tensors()
    for request in engine.running():
        engine.cancel(request.sample_id)
    engine.step()
    assert engine.idle
    assert tensors() <= while_running - 4 * 3, "latents, embeddings and schedules of four samples are gone"


def test_a_model_is_loaded_and_dropped_by_hand(folder, tmp_path):
    pool = pool_of(spec(folder), ModelSpec("gone", "1", "sd15", str(tmp_path / "gone")))
    for key in ("a@1", "gone@1"):
        pool.request(key)
    failed = {}
    while {"a@1"} - pool.sizes().keys() or not failed:
        failed |= pool.settle_requested()
    assert set(failed) == {"gone@1"}
    (size, precision) = pool.sizes()["a@1"]
    assert (size > 0, precision) == (True, "fp32")
    assert pool.borrow("a@1")
    pool.retire("a@1")
    assert "a@1" in pool.sizes(), "a sample uses it"
    pool.give_back("a@1")
    assert pool.sizes() == {}
