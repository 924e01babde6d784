"""What paused samples hold in memory is measured and bounded; what has to leave leaves nothing behind."""

import gc
import weakref

import numpy as np
import pytest
from prometheus_client import REGISTRY

from workers.engine import Engine, EngineConfig, Progress
from workers.engine.requests import SampleId
from workers.engine.tests.driving import Run, run_to_end, sample, worst

EQUAL = 1e-4


@pytest.fixture
def tight(mini_pool):
    """An engine that may keep the state of about `count` paused samples of 64x64."""
    engines = []

    def make(count):
        measured = paused_by_p0(Engine(mini_pool), [sample()])
        size = held(measured)
        measured.discard_all()
        engines.append(Engine(mini_pool, EngineConfig(paused_bytes=int(size * (count + 0.5)))))
        return engines[-1]

    yield make
    for engine in engines:
        engine.discard_all()


def held(engine):
    return sum(one.held_bytes for one in engine._active.values())


def paused_by_p0(engine, others, *, urgent=None):
    """The engine after one step of these and one step of a P0 of another size, which pauses them."""
    for request in others:
        engine.admit(request)
    engine.step()
    engine.admit(urgent or sample(priority=0, width=128, height=128, steps=4))
    engine.step()
    return engine


def drop(engine, task_ids):
    for request in engine.running():
        if request.task_id in task_ids:
            engine.cancel(request.sample_id)
    return engine.step()


def test_a_paused_sample_is_measured_with_all_that_it_holds(mini_pool):
    picture = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    plain, painted = sample(steps=4), sample(steps=4, kind="inpaint", image=picture, mask=picture[..., 0].copy())
    engine = paused_by_p0(Engine(mini_pool), [plain, painted])
    sizes = {name: one.held_bytes for name, one in engine._active.items()}
    call = engine._active[plain.sample_id].call
    arguments = sum(value.nbytes for value in call.arguments.values() if hasattr(value, "nbytes"))
    assert sizes[plain.sample_id] > arguments
    as_floats = 4 * picture.size
    assert sizes[painted.sample_id] > sizes[plain.sample_id] + picture.nbytes + 2 * as_floats  # itself, and masked
    assert REGISTRY.get_sample_value("imagegenx_paused_bytes") == sum(sizes.values())
    run_to_end(engine)
    assert REGISTRY.get_sample_value("imagegenx_paused_bytes") == 0


def test_measuring_keeps_nothing_alive(mini_pool):
    request = sample(steps=6)
    engine = paused_by_p0(Engine(mini_pool), [request])
    latents = weakref.ref(engine._active[request.sample_id].call.arguments["sample"])
    run = Run()
    while (request.steps - 1, request.steps) not in run.progress(request.sample_id):
        run.take(engine.step())
    gc.collect()
    assert latents() is None
    engine.discard_all()


def test_beyond_the_bound_the_youngest_leave_and_their_memory_is_free(tight, mini_pool):
    others = [sample(steps=5, seed=seed) for seed in range(4)]
    engine = paused_by_p0(tight(2), others)
    state = [weakref.ref(engine._active[request.sample_id].call.arguments["sample"]) for request in others]
    before = held(engine)
    assert engine.tasks_to_evict() == [others[3].task_id, others[2].task_id]
    drop(engine, engine.tasks_to_evict())
    gc.collect()
    assert [ref() is None for ref in state] == [False, False, True, True]
    assert held(engine) == before // 2
    assert engine.tasks_to_evict() == []
    run = run_to_end(engine)
    assert run.errors == {}
    assert others[2].sample_id not in run.images
    again = run_to_end(engine, others[2:])
    undisturbed = run_to_end(Engine(mini_pool), others)
    for request in others:
        picture = (run.images | again.images)[request.sample_id]
        assert worst(picture, undisturbed.images[request.sample_id]) <= EQUAL


def test_a_task_leaves_with_all_its_samples(tight):
    pair = [sample(sample_id=SampleId("pair", index), priority=3, steps=5) for index in range(2)]
    engine = paused_by_p0(tight(1), [sample(steps=5), *pair])
    assert engine.tasks_to_evict() == ["pair"]


def test_while_p0_runs_nobody_is_admitted_who_could_not_be_paused(tight):
    engine = paused_by_p0(tight(2), [sample(steps=5)])
    assert not engine.paused_memory_full
    assert engine.room("mini@1", 64, 64, 2) == 1
    engine.admit(sample(steps=5))
    assert engine.room("mini@1", 64, 64, 2) == 0
    engine.step()
    assert engine.room("mini@1", 64, 64, 0) > 0
    assert engine.tasks_to_evict() == []
    run_to_end(engine)
    assert engine.room("mini@1", 64, 64, 2) == 16


def test_memory_full_of_paused_work_takes_no_other_key_while_p0_runs(tight):
    engine = paused_by_p0(tight(0), [sample(steps=5)])
    assert engine.paused_memory_full
    assert engine.tasks_to_evict() == [], "one stays"
    assert engine.room("mini@1", 512, 512, 2) == 0
    events = engine.step()
    assert {event.sample_id for event in events if isinstance(event, Progress)} == {
        request.sample_id for request in engine.running() if request.priority == 0
    }


def test_a_sample_that_waits_for_a_task_that_leaves_runs_itself(tight):
    kept, first, waiting = (
        sample(steps=4),
        sample(steps=4, seed=1, cache=True),
        sample(steps=4, seed=1, cache=True),
    )
    engine = paused_by_p0(tight(1), [kept, first, waiting])
    assert engine.tasks_to_evict() == [first.task_id]
    drop(engine, [first.task_id])
    run = run_to_end(engine)
    assert {kept.sample_id, waiting.sample_id} <= run.images.keys()
