"""`alwayson_scripts.controlnet` of A1111: its first unit as the control picture of this server.

    field of the unit              here
    image | input_image            control_image; left out: the request's own init_images[0]
    module                         none: control_ready true; else the picture is processed (control_ready false)
    model, or else the module      control_type: canny, depth or openpose
    weight                         control_strength
    guidance_start, guidance_end   control_start, control_end

Several enabled units, and modules or models for which there is nothing here, are refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from generation.catalogue.kinds import CONTROL_TYPES
from generation.compat.a1111.form import number, text
from imagegenx_site.errors import Fault, InvalidRequest

_PLACE: Final = "alwayson_scripts.controlnet.args[0]"
MODULES: Final = {  # A1111's preprocessors -> the control type that they draw; empty: none is drawn
    "none": "",
    "canny": "canny",
    "depth": "depth",
    "depth_midas": "depth",
    "depth_zoe": "depth",
    "depth_anything": "depth",
    "openpose": "openpose",
    "openpose_full": "openpose",
    "dw_openpose_full": "openpose",
}
_BALANCED: Final = (None, 0, "0", "", "Balanced")


@dataclass(frozen=True)
class ControlUnit:
    """The control picture ("": the one that is worked on), its `params`, and what of the unit has no effect."""

    image: str
    params: Mapping[str, Any]
    notes: tuple[str, ...]


def unit_of(scripts: Any) -> ControlUnit | None:
    """The enabled unit of a request's scripts. Raises InvalidRequest, also for scripts that are not here."""
    if not isinstance(scripts, Mapping):
        return None
    found: list[Mapping[str, Any]] = []
    for name, block in scripts.items():
        args = block.get("args") if isinstance(block, Mapping) else None
        if not isinstance(args, list) or not args:
            continue
        if str(name).lower() != "controlnet":
            message = f"There is no script {str(name)[:60]} here; leave it out, or switch it off in your program."
            raise InvalidRequest([Fault("alwayson_scripts", "not_available", message)])
        found += [unit for unit in args if isinstance(unit, Mapping) and unit and unit.get("enabled", True)]
    if len(found) > 1:
        message = f"{len(found)} ControlNet units are enabled, and one control picture counts here. Disable the others."
        raise InvalidRequest([Fault("alwayson_scripts.controlnet.args", "out_of_range", message)])
    return _unit(found[0]) if found else None


def _unit(asked: Mapping[str, Any]) -> ControlUnit:
    module = _folded(text(asked, "module")) or "none"
    if module not in MODULES:
        raise _refused("module", f"There is no preprocessor {module[:60]}. Known: {', '.join(MODULES)}.")
    params: dict[str, Any] = {
        "control_type": _type(text(asked, "model"), module),
        "control_ready": module == "none",
        "control_strength": min(max(0.0, number(asked, "weight", 1.0)), 2.0),
        "control_start": min(max(0.0, number(asked, "guidance_start", 0.0)), 1.0),
        "control_end": min(max(0.0, number(asked, "guidance_end", 1.0)), 1.0),
    }
    notes = []
    if asked.get("control_mode") not in _BALANCED:
        notes.append("ControlNet: control_mode has no effect; prompt and control picture count as `weight` says.")
    if module != "none":
        notes.append("ControlNet: thresholds and resolution of the preprocessor are this server's own.")
    if asked.get("mask"):
        notes.append("ControlNet: the unit's own mask has no effect.")
    return ControlUnit(_image(asked), params, tuple(notes))


def _type(model: str, module: str) -> str:
    """By the model's name, such as control_v11p_sd15_canny [d14c016b]; without one by the module."""
    named = "" if model.lower() in ("", "none") else model.lower()
    found = next((kind for kind in CONTROL_TYPES if kind in named), "")
    drawn = MODULES[module]
    if (named and not found) or not (found or drawn):
        raise _refused("model", f"Name a model for one of {', '.join(CONTROL_TYPES)}; see /controlnet/model_list.")
    if found and drawn and found != drawn:
        raise _refused("module", f"The preprocessor draws {drawn}, and the model reads {found}.")
    return found or drawn


def _image(asked: Mapping[str, Any]) -> str:
    given = asked.get("image") or asked.get("input_image") or ""
    image = given.get("image") if isinstance(given, Mapping) else given
    if not isinstance(image, str):
        raise _refused("image", "A picture in base64.")
    return image


def _folded(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def _refused(field: str, message: str) -> InvalidRequest:
    return InvalidRequest([Fault(f"{_PLACE}.{field}", "not_available", message)])
