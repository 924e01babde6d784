"""A sampler is one entry of one table: whatever stands in it works at every door and in the engine."""

from typing import Any

import diffusers
import pytest

from generation.api.forms import ParamsSerializer
from generation.catalogue.samplers import AUTO, BY_A1111_NAME, NAMES, SAMPLERS, Sampler
from generation.compat import sdapi_form
from workers.engine.models.schedulers import choose_scheduler

OWN = diffusers.EulerDiscreteScheduler()
FIELD: Any = ParamsSerializer().fields["sampler"]


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=lambda sampler: sampler.name)
def test_every_sampler_of_the_table_is_made_by_the_engine_taken_by_the_api_and_known_to_a1111(sampler: Sampler) -> None:
    made = choose_scheduler(OWN, sampler.name, 20).make(OWN)
    assert type(made).__name__ == sampler.scheduler
    assert {name: made.config[name] for name in sampler.settings} == sampler.settings
    assert FIELD.run_validation(sampler.name) == sampler.name
    assert sdapi_form._sampler({"sampler_name": sampler.a1111}) == sampler.name


def test_the_models_own_sampler_and_those_of_the_table_are_all_that_can_be_asked_for() -> None:
    assert tuple(FIELD.choices) == NAMES == (AUTO, *SAMPLERS)
    assert len(BY_A1111_NAME) == len(SAMPLERS), "no two have one name"
    assert type(choose_scheduler(OWN, AUTO, 20).make(OWN)) is type(OWN)
    assert sdapi_form._sampler({"sampler_name": "DPM++ SDE", "scheduler": "Karras"}) == "dpm++_sde_karras"
    assert sdapi_form._sampler({"sampler_name": "LMS"}) == AUTO
