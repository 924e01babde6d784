"""From a checked request to a submission: what the client left out is filled in from the model, the style and the
plan.
"""

from collections.abc import Mapping
from typing import Any

from generation import catalogue, prompts
from generation.api.requests import parse, style_of
from generation.models import ApiKey, ImageModel
from generation.parameters import Parameters, new_seed
from generation.services import Submission, plan_of


def submission_of(body: Any, *, kind: str, api_key: ApiKey) -> Submission:
    """Check the body and decide everything it leaves open. Raises InvalidRequest with every fault."""
    plan, known = plan_of(api_key), catalogue.current()
    checked = parse(body, kind=kind, catalogue=known, plan=plan)
    params: Mapping[str, Any] = checked.get("params", {})
    model: ImageModel = checked["model"]
    style = style_of(known, params)
    words = style if model.options.get("style_prompts", True) else None  # a model may know too few words for a style's
    priority = checked.get("priority")
    width, height = params.get(
        "resolution", (min(model.default_width, plan.max_side), min(model.default_height, plan.max_side))
    )
    seed = params.get("seed", -1)
    parameters = Parameters(
        kind=kind,
        text=prompts.composed(checked["text"], words, params.get("style_keywords", ())),
        negative_text=prompts.composed_negative(params.get("negative_text", ""), words),
        width=width,
        height=height,
        steps=params.get("steps", model.default_steps),
        cfg_scale=params.get("cfg_scale", model.default_cfg_scale),
        sampler=_sampler(params.get("sampler", "auto"), model),
        seed=new_seed() if seed == -1 else seed,
        num_images=params.get("num_images", 1),
        style=style.name if style else "",
        postprocess=_postprocess(params),
        style_tone=style.tone if style else {},
        deterministic=params.get("deterministic", False),
    )
    return Submission(
        parameters=parameters,
        model=model,
        text=checked["text"],
        priority=plan.priority_default if priority is None else priority,
        callback_url=checked.get("callback_url") or "",
        queue_seconds=plan.queue_seconds,
    )


def _sampler(asked: str, model: ImageModel) -> str:
    return model.default_sampler if asked == "auto" else asked


def _postprocess(params: Mapping[str, Any]) -> dict[str, Any]:
    """The postprocess block, with the two settings that may also stand beside it; the block's own value wins."""
    beside = {name: params[name] for name in ("format", "saturation") if name in params}
    return {**beside, **params.get("postprocess", {})}
