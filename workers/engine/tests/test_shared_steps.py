"""Six samples of different steps, samplers and guidance in one batch are each what the stock pipeline makes alone."""

from dataclasses import replace

import diffusers
import pytest
import torch

from workers.engine import Engine, Finished, TaskBatch
from workers.engine.batching import batch_runner
from workers.engine.interception import Phase
from workers.engine.tests.driving import as_array, run_to_end, sample, worst

EQUAL = 1e-4  # before quantising; half a grey level is 2e-3

SCHEDULERS: dict[str, tuple] = {
    "auto": (diffusers.EulerDiscreteScheduler, {}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "euler_a": (diffusers.EulerAncestralDiscreteScheduler, {}),
    "dpm++": (diffusers.DPMSolverMultistepScheduler, {}),
    "ddim": (diffusers.DDIMScheduler, {}),
}


@pytest.fixture(scope="module")
def stock(mini_spec):
    """The model as a user of diffusers loads it, apart from the engine."""
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        mini_spec.source, dtype=torch.float32, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    own_config = pipeline.scheduler.config

    def alone(request):
        asked = request.parameters
        scheduler_class, changes = SCHEDULERS[asked.sampler]
        pipeline.scheduler = scheduler_class.from_config(own_config, **changes)
        result = pipeline(
            asked.text, negative_prompt=asked.negative_text, height=asked.height, width=asked.width,
            num_inference_steps=asked.steps, guidance_scale=asked.cfg_scale, output_type="pt",
            generator=torch.Generator().manual_seed(request.seed),
        )  # fmt: skip
        return as_array(result.images)

    return alone


def six_different():
    size = {"width": 256, "height": 256}
    return [
        sample(sampler="euler", steps=6, cfg_scale=4.0, seed=1, **size),
        sample(sampler="euler_a", steps=4, cfg_scale=7.5, seed=2, text="a blue star", **size),
        sample(
            sampler="dpm++", steps=8, cfg_scale=3.0, seed=3, text="a cat with a hat", negative_text="blurry", **size
        ),
        sample(sampler="ddim", steps=5, cfg_scale=12.0, seed=4, text="一个红色的圆", **size),
        sample(sampler="dpm++", steps=3, cfg_scale=1.0, seed=5, text="a green tree", **size),
        sample(sampler="auto", steps=7, cfg_scale=5.5, seed=6, text="a house", **size),
    ]


@pytest.fixture
def passes(monkeypatch):
    """Records the number of samples of each shared forward pass."""
    sizes = []
    run_together = batch_runner.run_together

    def recorded(samples):
        sizes.append(len(samples))
        run_together(samples)

    monkeypatch.setattr(batch_runner, "run_together", recorded)
    return sizes


def test_six_different_samples_share_passes_and_equal_their_stock_runs(engine, stock, passes):
    requests = six_different()
    run = run_to_end(engine, requests)
    assert run.errors == {}
    differences = {r.sample_id: worst(run.images[r.sample_id], stock(r)) for r in requests}
    print("worst difference to the stock run:", max(differences.values()))
    assert max(differences.values()) <= EQUAL
    assert passes[:3] == [6, 6, 6]
    assert len(passes) < 8 + 6 + 1, "one pass for each step of the longest sample, and one decode for each end at most"


def test_a_batch_with_a_limit_shares_passes_within_it_and_has_the_same_pictures(engine, mini_pool, monkeypatch):
    members = []
    run_together = batch_runner.run_together

    def recorded(samples):
        if samples[0].call.phase is Phase.DENOISE:
            members.append([sample.request for sample in samples])
        run_together(samples)

    monkeypatch.setattr(batch_runner, "run_together", recorded)
    limited = TaskBatch("b", 2)
    tasks = [sample(seed=seed, steps=4, batch=limited) for seed in range(5)]
    others = [sample(seed=seed, steps=4) for seed in range(5, 7)]
    run = run_to_end(engine, [*tasks, *others])
    of_the_batch = [sum(request.batch is limited for request in shared) for shared in members]
    assert of_the_batch == [2] * 8 + [1] * 4
    assert [len(shared) for shared in members] == [4] * 4 + [2] * 4 + [1] * 4
    free = run_to_end(Engine(mini_pool), [replace(request, batch=None) for request in (*tasks, *others)])
    assert max(len(shared) for shared in members) == 7, "without a limit all share"
    for request in (*tasks, *others):
        assert worst(run.images[request.sample_id], free.images[request.sample_id]) <= EQUAL


def test_the_comparison_can_fail(engine, stock):
    """Negative control: another seed, and guidance a little off, are both seen."""
    seed, guidance = sample(seed=1), sample(seed=2, cfg_scale=4.0)
    run = run_to_end(engine, [seed, guidance])
    assert worst(run.images[seed.sample_id], stock(sample(seed=9))) > 100 * EQUAL
    assert worst(run.images[guidance.sample_id], stock(sample(seed=2, cfg_scale=4.05))) > EQUAL


def test_progress_comes_with_every_step(engine):
    request = sample(steps=4)
    run = run_to_end(engine, [request])
    assert run.progress(request.sample_id) == [(1, 4), (2, 4), (3, 4), (4, 4)]
    finished = run.events[-1]
    assert isinstance(finished, Finished)
    assert (finished.image.shape, str(finished.image.dtype)) == ((64, 64, 3), "float32")
    assert finished.image.min() >= 0
    assert finished.image.max() <= 1
    assert engine.warm_key is None
