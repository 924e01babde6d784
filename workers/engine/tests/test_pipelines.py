"""Pipelines are copied, not built, for each sample: what a sample leaves on one must not reach the next."""

import diffusers
import pytest

from generation.catalogue.samplers import SAMPLERS
from workers.engine.models.schedulers import choose_scheduler
from workers.engine.tests.driving import sample


def test_two_samples_of_one_sort_share_modules_and_nothing_that_changes(mini_pool):
    model = mini_pool.get("mini@1")
    one, other = (model.pipeline_for(sample(seed=seed), []) for seed in (1, 2))
    one.scheduler.set_timesteps(3)
    one._guidance_scale = 9.0
    assert one.unet is other.unet
    assert one.scheduler is not other.scheduler
    assert other.scheduler.num_inference_steps is None
    assert not hasattr(other, "_guidance_scale")


def test_a_copied_scheduler_is_as_the_constructor_of_the_pipeline_left_it(mini_pool):
    model = mini_pool.get("mini@1")
    for sampler in SAMPLERS:
        fresh = choose_scheduler(model.components["scheduler"], sampler, 20).make(model.components["scheduler"])
        stock = diffusers.StableDiffusionPipeline(
            **{**model.components, "scheduler": fresh}, requires_safety_checker=False
        )
        ours = model.pipeline_for(sample(sampler=sampler, steps=20), [])
        assert type(ours.scheduler) is type(stock.scheduler)
        assert ours.scheduler.config == stock.scheduler.config


@pytest.mark.parametrize("sampler", ["auto", "lcm"])
def test_an_lcm_schedule_takes_up_to_a_hundred_steps(sampler):
    own = diffusers.LCMScheduler(original_inference_steps=50)
    scheduler = choose_scheduler(own, sampler, 100).make(own)
    scheduler.set_timesteps(100)
    assert len(scheduler.timesteps) == 100
