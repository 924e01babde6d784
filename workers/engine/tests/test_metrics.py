"""What the engine tells Prometheus."""

import pytest
import torch
from prometheus_client import REGISTRY

from generation.queue.values import size_class
from workers.engine import Engine, EngineConfig, Finished, ModelPool, ModelSpec, ModelUnavailable, PoolConfig
from workers.engine.tests.driving import run_to_end, sample


def value(name, **labels):
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_steps_batches_and_prompts_are_counted(mini_pool):
    names = {
        "imagegenx_step_seconds_count": {"model": "mini@1", "size": "256"},
        "imagegenx_batch_samples_sum": {"model": "mini@1"},
        "imagegenx_embeddings_total": {"result": "hit"},
    }
    before = {name: value(name, **labels) for name, labels in names.items()}
    requests = [sample(text="counted once", seed=seed) for seed in range(3)]
    run_to_end(Engine(mini_pool, EngineConfig(batch_limits={512: 8})), requests)
    grown = [value(name, **labels) - before[name] for name, labels in names.items()]
    assert grown == [3, 9, 2]


def test_a_pass_that_does_not_fit_is_counted(mini_pool, monkeypatch):
    heavy = mini_pool.get("mini@1").heavy["unet"]
    real = heavy.run

    def tight(**arguments):
        if len(arguments["sample"]) > 2:
            raise torch.OutOfMemoryError("injected")
        return real(**arguments)

    monkeypatch.setattr(heavy, "run", tight)
    before = value("imagegenx_out_of_memory_total", model="mini@1")
    run_to_end(Engine(mini_pool), [sample(seed=seed, steps=1) for seed in range(2)])
    assert value("imagegenx_out_of_memory_total", model="mini@1") == before + 1


def test_loads_and_bytes_of_models(mini_spec, tmp_path):
    pool = ModelPool(PoolConfig(device="cpu"))
    pool.ensure(ModelSpec("counted", "1", "sd15", mini_spec.source))
    pool.ensure(ModelSpec("missing", "1", "sd15", str(tmp_path)))
    pool.get("counted@1")
    assert value("imagegenx_model_loads_total", model="counted@1", outcome="loaded") == 1
    assert value("imagegenx_model_bytes", model="counted@1") == pool.loaded()["counted@1"]
    with pytest.raises(ModelUnavailable):
        pool.get("missing@1")
    assert value("imagegenx_model_loads_total", model="missing@1", outcome="failed") == 1
    pool.close()
    assert value("imagegenx_model_bytes", model="counted@1") == 0


def test_sizes_that_a_client_chooses_make_few_series():
    sides = range(256, 2049, 8)
    assert {size_class(width, height) for width in sides for height in sides} == {
        str(side) for side in range(256, 2049, 256)
    }


def test_samples_say_where_their_time_went(mini_pool):
    requests = [sample(text="timed", seed=seed, steps=3) for seed in range(2)]
    finished = [event for event in run_to_end(Engine(mini_pool), requests).events if isinstance(event, Finished)]
    assert len(finished) == 2
    for event in finished:
        times = event.times
        assert 0 < times.began <= times.denoise_from < times.denoise_until <= times.decode_from < times.decode_until
        assert (times.steps, times.joined, times.paused) == (3, 6, 0)


def test_precision_and_rows_are_counted(mini_pool):
    before = value("imagegenx_batch_rows_sum", model="mini@1")
    run_to_end(Engine(mini_pool), [sample(seed=seed, steps=1) for seed in range(2)])
    assert value("imagegenx_batch_rows_sum", model="mini@1") - before in (2, 4)  # 4 with guidance
    assert value("imagegenx_model_precision", model="mini@1", precision=mini_pool.precision_of("mini@1")) == 1
