"""The samplers: their names in the API, what each is in diffusers, and every name that users of A1111, ComfyUI,
diffusers and InvokeAI have for it. A pure value.

A new sampler is one entry here: the API's form, the engine and the compatible doors read this table. A name is read
without regard to case, spaces and punctuation (`++` is `pp`): `DPM++ 2M Karras` and `dpmpp_2m_karras` are one. What is
not here is refused: nobody gets another sampler than the one named.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

AUTO: Final = "auto"  # the model's own sampler


@dataclass(frozen=True)
class Sampler:
    """`scheduler`: a class of diffusers. `settings` are laid over those of the model's own scheduler. `a1111`: the
    name that AUTOMATIC1111's API knows it by. `aliases`: what others call it, beside these names.
    """

    name: str
    scheduler: str
    a1111: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


_KARRAS: Final = {"use_karras_sigmas": True}
_SDE: Final = {"algorithm_type": "sde-dpmsolver++"}
_TABLE: Final = (
    Sampler("euler", "EulerDiscreteScheduler", "Euler", aliases=("k_euler", "EulerDiscreteScheduler")),
    Sampler(
        "euler_a",
        "EulerAncestralDiscreteScheduler",
        "Euler a",
        aliases=("euler_ancestral", "k_euler_a", "k_euler_ancestral", "EulerAncestralDiscreteScheduler"),
    ),
    Sampler(
        "dpm++",
        "DPMSolverMultistepScheduler",
        "DPM++ 2M",
        aliases=("dpmpp_2m", "k_dpmpp_2m", "DPMSolverMultistepScheduler"),
    ),
    Sampler(
        "dpm++_karras",
        "DPMSolverMultistepScheduler",
        "DPM++ 2M Karras",
        _KARRAS,
        ("dpmpp_2m_karras", "dpmpp_2m_k", "k_dpmpp_2m_ka", "KarrasDPM"),
    ),
    # Of the SDE solvers this is the multistep one of second order, which A1111 calls DPM++ 2M SDE, too.
    Sampler(
        "dpm++_sde",
        "DPMSolverMultistepScheduler",
        "DPM++ SDE",
        _SDE,
        (
            "dpmpp_sde",
            "k_dpmpp_sde",
            "dpmpp_sde_gpu",
            "DPM++ 2M SDE",
            "dpmpp_2m_sde",
            "k_dpmpp_2m_sde",
            "dpmpp_2m_sde_gpu",
        ),
    ),
    Sampler(
        "dpm++_sde_karras",
        "DPMSolverMultistepScheduler",
        "DPM++ SDE Karras",
        _SDE | _KARRAS,
        (
            "dpmpp_sde_karras",
            "dpmpp_sde_k",
            "k_dpmpp_sde_ka",
            "DPM++ 2M SDE Karras",
            "dpmpp_2m_sde_k",
            "k_dpmpp_2m_sde_ka",
        ),
    ),
    Sampler("ddim", "DDIMScheduler", "DDIM", aliases=("DDIMScheduler",)),
    Sampler("unipc", "UniPCMultistepScheduler", "UniPC", aliases=("uni_pc_bh2", "UniPCMultistepScheduler")),
    Sampler("lcm", "LCMScheduler", "LCM", aliases=("k_lcm", "LCMScheduler")),
    Sampler("heun", "HeunDiscreteScheduler", "Heun", aliases=("k_heun", "HeunDiscreteScheduler")),
)

SAMPLERS: Final[Mapping[str, Sampler]] = {sampler.name: sampler for sampler in _TABLE}
BY_A1111_NAME: Final[Mapping[str, Sampler]] = {sampler.a1111: sampler for sampler in _TABLE}
NAMES: Final = (AUTO, *SAMPLERS)
"""What a request may ask for."""
SCHEDULES: Final = ("automatic", "normal", "uniform", "karras")
"""What may stand beside a sampler's name where an API has a field of its own for it; only the last changes anything."""
_KARRAS_SCHEDULE: Final = "karras"
_OWN: Final = ("", "auto", "automatic", "default", "none")  # names that leave the choice to the model


def _folded(name: str) -> str:
    """What is left of a name without case, spaces and punctuation; a diffusers class without its last word."""
    return re.sub(r"[\W_]", "", name.lower().replace("++", "pp")).removesuffix("scheduler")


_BY_FOLDED: Final[Mapping[str, str]] = {
    _folded(name): sampler.name for sampler in _TABLE for name in (sampler.name, sampler.a1111, *sampler.aliases)
}


def find(name: str, schedule: str = "") -> str | None:
    """The sampler of that name in anybody's spelling, with the schedule beside it; AUTO where none is named. None for
    what is not here.
    """
    folded, beside = _folded(name), _folded(schedule)
    if beside and beside not in (*SCHEDULES, "default"):
        return None
    if name.strip() and not folded:
        return None
    if folded in _OWN:
        return AUTO if beside != _KARRAS_SCHEDULE else None
    wanted = folded
    if beside == _KARRAS_SCHEDULE and not folded.endswith(_KARRAS_SCHEDULE):
        base = _BY_FOLDED.get(folded)
        if base and base.endswith(_KARRAS_SCHEDULE):
            return base
        wanted = folded + _KARRAS_SCHEDULE if base is None else _folded(base) + _KARRAS_SCHEDULE
    return _BY_FOLDED.get(wanted)


def known() -> str:
    """A sentence that names them all."""
    names = ", ".join(sampler.a1111 for sampler in _TABLE)
    schedules = ", ".join(SCHEDULES)
    return f"Known: {names}, or {', '.join(SAMPLERS)}; schedules beside them: {schedules} (karras: DPM++ only)."
