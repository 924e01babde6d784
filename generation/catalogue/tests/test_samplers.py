"""A sampler is one entry of one table: whatever stands in it works at every door and in the engine."""

from typing import Any

import diffusers
import pytest

from generation.api.forms import ParamsSerializer
from generation.catalogue import samplers
from generation.catalogue.samplers import AUTO, BY_A1111_NAME, NAMES, SAMPLERS, Sampler
from generation.compat.a1111 import form as sdapi_form
from imagegenx_site.errors import InvalidRequest
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
    assert isinstance(choose_scheduler(OWN, AUTO, 20).make(OWN), type(OWN))
    assert sdapi_form._sampler({"sampler_name": "DPM++ SDE", "scheduler": "Karras"}) == "dpm++_sde_karras"


NAMED: dict[str, list[Any]] = {
    "euler": ["Euler", "EULER", "k_euler", "EulerDiscreteScheduler", " euler "],
    "euler_a": ["Euler a", "euler a", "euler_a", "Euler A", "euler_ancestral", "k_euler_a", "EulerAncestralDiscrete"],
    "dpm++": ["DPM++ 2M", "dpm++ 2m", "dpmpp_2m", "DPMSolverMultistepScheduler", "dpm++_2m", ("DPM++ 2M", "Automatic")],
    "dpm++_karras": ["DPM++ 2M Karras", "dpmpp_2m_karras", ("dpmpp_2m", "karras"), ("DPM++ 2M Karras", "Karras"),
                     ("DPM++ 2M", "KARRAS"), ("dpm++_karras", ""), "k_dpmpp_2m_ka", "KarrasDPM"],
    "dpm++_sde": ["DPM++ SDE", "dpmpp_sde", "dpmpp_2m_sde", "DPM++ 2M SDE", ("DPM++ SDE", "normal")],
    "dpm++_sde_karras": ["DPM++ SDE Karras", "dpm++ sde karras", ("DPM++ SDE", "Karras"), ("dpmpp_2m_sde", "karras"),
                         ("dpm++_sde", "karras"), "DPM++ 2M SDE Karras"],
    "unipc": ["UniPC", "unipc", "uni_pc", "UNIPC", "uni_pc_bh2", "UniPCMultistepScheduler"],
    "ddim": ["DDIM", "ddim", "DDIMScheduler"],
    "lcm": ["LCM", "lcm", "k_lcm"],
    "heun": ["Heun", "k_heun"],
    AUTO: ["", "Automatic", "auto", ("", "automatic")],
}  # fmt: skip
REFUSED: list[Any] = [
    "LMS", "PLMS", "DPM2 a", "DPM++ 2S a", "DPM++ 3M SDE", "euler_cfg_pp", "heunpp2", "dpm", "scheduler", "!!!", "欧拉",
    ("Euler", "karras"), ("Euler a", "Karras"), ("DPM++ 2M", "exponential"), ("DPM++ 2M", "sgm_uniform"),
    ("", "karras"), ("DDIM", "beta"), "DPM++ 2M Karras Karras",
]  # fmt: skip


@pytest.mark.parametrize(("name", "given"), [(name, given) for name, all_given in NAMED.items() for given in all_given])
def test_a_name_in_anybodys_spelling_is_the_sampler_it_names(name: str, given: Any) -> None:
    sampler, schedule = given if isinstance(given, tuple) else (given, "")
    assert sdapi_form._sampler({"sampler_name": sampler, "scheduler": schedule}) == name
    assert sdapi_form._sampler({"sampler_index": sampler, "scheduler": schedule}) == name
    if sampler and not schedule:
        assert FIELD.run_validation(sampler) == name


@pytest.mark.parametrize("given", REFUSED)
def test_another_name_is_refused_with_the_names_that_there_are(given: Any) -> None:
    sampler, schedule = given if isinstance(given, tuple) else (given, "")
    with pytest.raises(InvalidRequest) as refused:
        sdapi_form._sampler({"sampler_name": sampler, "scheduler": schedule})
    [fault] = refused.value.faults
    assert fault.field == ("sampler_name" if sampler else "scheduler")
    assert "DPM++ 2M Karras" in fault.message


def test_every_name_that_is_listed_is_taken_and_no_two_samplers_share_one() -> None:
    listed = [(alias, one.name) for one in SAMPLERS.values() for alias in (one.name, one.a1111, *one.aliases)]
    assert [samplers.find(alias) for alias, _ in listed] == [name for _, name in listed]
