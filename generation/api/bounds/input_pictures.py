"""The pictures of a checked request: loaded, the task's size decided, everything brought to it."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from django.conf import settings
from PIL.Image import Image as Picture

from generation.accounts.models import Plan
from generation.api.bounds import masks
from generation.catalogue import controls
from generation.catalogue.kinds import Kind
from generation.catalogue.models import ImageModel
from generation.catalogue.parameters import SIDE_STEP
from generation.tasks import inputs
from generation.tasks.inputs import InputFault, InputPicture
from imagegenx_site.errors import InvalidRequest
from postprocessing.client_pictures import ClientPicture

Size = tuple[int, int]
PIXELS: Final = "pixels"  # of checked values: what is left for a picture of several, instead of MAX_INPUT_PIXELS


def size_and_inputs(
    checked: Mapping[str, Any], kind: Kind, model: ImageModel, plan: Plan, fit: Callable[[Size], Size]
) -> tuple[Size, tuple[InputPicture, ...]]:
    """Width and height of the task, and its pictures at that size. `fit` has the last word about the size. Raises
    InvalidRequest.
    """
    params = checked.get("params", {})
    given = _load_all(checked, kind.roles)
    loaded = {role: _by_role(kind, role, one.picture, checked) for role, one in given.items()}
    if "image" in loaded and "mask" in loaded:
        _or_fault("mask", inputs.check_same_shape, loaded["image"], loaded["mask"])
    if "image" in loaded and params.get("area"):
        area = _or_fault("params.area", inputs.area_mask, loaded["image"].size, tuple(params["area"]))
        loaded["mask"] = masks.within(area, loaded["mask"]) if "mask" in loaded else area
    if "control" in loaded:
        control_type = kind.own_parameters(params, model)["control_type"]
        fault = controls.photo_fault(model, control_type, params.get("control_ready"), loaded["control"])
        if fault:
            raise InvalidRequest([fault])
    size = fit(params.get("resolution") or _default_size(loaded, model, plan))
    feather = params.get("mask_feather", 0)
    animated = {role for role, one in given.items() if one.animated}
    prepared = [
        inputs.prepared(role, picture, size, feather=feather, animated=role in animated)
        for role, picture in loaded.items()
    ]
    return size, tuple(prepared)


def whole_picture(checked: Mapping[str, Any]) -> tuple[Size, tuple[InputPicture, ...]]:
    """The size of a picture that is only processed, and the picture as it is. Raises InvalidRequest."""
    given = _load_all(checked, {"image": "image"})["image"]
    size = given.picture.size
    return size, (inputs.prepared("image", inputs.on_white(given.picture), size, animated=given.animated),)


def _load_all(checked: Mapping[str, Any], roles: Mapping[str, str]) -> dict[str, ClientPicture]:
    """The pictures by their role, within the deployment's limits. Raises InvalidRequest."""
    limits = inputs.InputLimits(settings.MAX_INPUT_BYTES, checked.get(PIXELS, settings.MAX_INPUT_PIXELS))
    given = {name: checked[name] for name in roles if name in checked}
    return {roles[name]: _or_fault(name, inputs.load, picture, limits) for name, picture in given.items()}


def _by_role(kind: Kind, role: str, picture: Picture, checked: Mapping[str, Any]) -> Picture:
    """Without alpha: what it says is in the picture then."""
    if role != "mask":
        return inputs.on_white(picture)
    field = next(name for name, of in kind.roles.items() if of == role)
    painted: Picture = _or_fault(field, masks.painted, picture, checked[field])
    return painted


def _default_size(loaded: Mapping[str, Picture], model: ImageModel, plan: Plan) -> Size:
    high = min(model.max_side, plan.max_side)
    leading = loaded.get("image") or loaded.get("control")
    if leading is not None:
        return inputs.fitted_size(leading, low=model.min_side, high=high, step=SIDE_STEP)
    return min(model.default_width, plan.max_side), min(model.default_height, plan.max_side)


def _or_fault(field: str, function: Any, *args: Any) -> Any:
    """The function's answer; its fault as one of the request's."""
    try:
        return function(*args)
    except InputFault as fault:
        raise InvalidRequest([fault.at(field)]) from fault
