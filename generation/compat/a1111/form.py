"""AUTOMATIC1111's API: what its fields mean here, and the form of its answers.

Its programs send every field that they know, with values of a Stable Diffusion 1.5, and do not read refusals well. So
numbers beyond the model's bounds are brought within them, and what has no meaning here is ignored; where it would
change the picture, `info.notes` of the answer says so, or the request is refused (request.py).

    field                                        here
    prompt (with <lora:name:weight>)             text, params.loras; <lora:none:...> stands for no LoRA
    styles (one)                                 params.style
    width, height                                params.resolution
    batch_size x n_iter                          params.num_images
    sampler_name | sampler_index, scheduler      params.sampler; none, or Automatic: the model's own; unknown: refused
    override_settings.sd_model_checkpoint        params.model
    init_images (of several each makes n_iter pictures; every picture has the next seed),
    mask (white, or what is opaque, is repainted: generation/api/bounds/masks.py), inpainting_mask_invert, mask_blur,
    denoising_strength
    enable_hr, hr_scale, hr_resize_x, hr_resize_y   params.postprocess.upscale (hires.py)
    alwayson_scripts.controlnet (one unit)       a ControlNet request (controlnet.py)

Numbers may be written as texts.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from generation.api.kind_forms import MOST_PICTURES
from generation.catalogue import file_notes, samplers
from generation.catalogue.kinds import KINDS
from generation.catalogue.models import ImageModel
from generation.catalogue.parameters import SIDE_STEP, SIDES
from generation.catalogue.snapshot import Catalogue
from generation.compat.base import in_base64
from generation.tasks.inputs import GivenMask, MaskRule
from generation.tasks.models import Image, Task
from imagegenx_site.errors import Fault, InvalidRequest
from postprocessing.metadata import parameters_text

_LORA: Final = re.compile(r"<(?:lora|lyco):([^<>]*)>", re.IGNORECASE)
_NO_LORA: Final = "none"  # programs write it where somebody has chosen no LoRA
_OF_EACH_PICTURE: Final = ("all_prompts", "all_negative_prompts", "all_seeds", "infotexts")
_DECIMAL: Final = re.compile(r"[+-]?(\d{1,400}(\.\d{0,400})?|\.\d{1,400})(e[+-]?\d{1,3})?", re.IGNORECASE | re.ASCII)


def request_body(asked: Mapping[str, Any], catalogue: Catalogue, kind: str, chosen: str) -> dict[str, Any]:
    """Our request body; `chosen` is the model that the caller has set by `options`. Raises InvalidRequest."""
    model = model_titled(catalogue, _override(asked) or chosen, kind)
    written, loras = _without_loras(text(asked, "prompt"))
    params: dict[str, Any] = {"negative_text": text(asked, "negative_prompt"), "loras": loras}
    params["sampler"] = _sampler(asked)
    params["num_images"] = max(1, whole(asked, "batch_size", 1)) * max(1, whole(asked, "n_iter", 1))
    params["seed"] = max(-1, whole(asked, "seed", -1))
    params["postprocess"] = {"format": "png"}
    if model:
        params["model"] = model.name
        params["steps"] = min(max(1, whole(asked, "steps", model.default_steps)), model.max_steps)
        params["cfg_scale"] = min(max(1.0, number(asked, "cfg_scale", model.default_cfg_scale)), 20.0)
    if asked.get("width") or asked.get("height"):
        width, height = whole(asked, "width", 512), whole(asked, "height", 512)
        params["resolution"] = f"{_side(width, model)}x{_side(height, model)}"
    if not loras:
        del params["loras"]
    if style := _style(asked):
        params["style"] = style
    return {"text": written, "params": params}


def with_pictures(asked: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """Our body with the pictures of an img2img request. Raises InvalidRequest."""
    pictures = asked.get("init_images")
    if not isinstance(pictures, list) or not pictures or not isinstance(pictures[0], str):
        raise InvalidRequest([Fault("init_images", "required", "Send pictures in base64.")])
    strength = min(max(0.05, number(asked, "denoising_strength", 0.75)), 1.0)
    params = {**body["params"], "strength": strength}
    if len(pictures) > 1:
        rounds = min(max(1, whole(asked, "n_iter", 1)), MOST_PICTURES + 1)  # more are refused in any case
        given: dict[str, Any] = {"images": pictures * rounds}
        params["num_images"] = 1
    else:
        given = {"image": pictures[0]}
    body = {**body, **given, "params": params}
    if not asked.get("mask"):
        return body
    mask = GivenMask(asked["mask"], MaskRule.OPAQUE, inverted=flag(asked, "inpainting_mask_invert"))
    params["mask_feather"] = min(max(0, whole(asked, "mask_blur", 4)), 64)
    return {**body, "mask": mask}


def model_titled(catalogue: Catalogue, title: str, kind: str) -> ImageModel | None:
    """The model of a title, name or alias; the default one when nothing of that name is here."""
    known = (model for model in catalogue.models if title in (model.title, model.name))
    found = next(known, None) or (catalogue.model(title) if title else None)
    return found if found and kind in found.kinds else catalogue.default_model(kind)


def _override(asked: Mapping[str, Any]) -> str:
    settings = asked.get("override_settings")
    return str(settings.get("sd_model_checkpoint") or "") if isinstance(settings, Mapping) else ""


def _without_loras(prompt: str) -> tuple[str, list[dict[str, Any]]]:
    """The prompt, and what its `<lora:name>` and `<lora:name:weight>` ask for. Raises InvalidRequest."""
    loras = [lora for found in _LORA.finditer(prompt) if (lora := _lora(found[1]))]
    return " ".join(_LORA.sub(" ", prompt).split()), loras


def _lora(tag: str) -> dict[str, Any] | None:
    name, _, weight = tag.partition(":")
    if name.strip().lower() == _NO_LORA:
        return None
    parsed = _parsed(weight) if weight else 1.0
    if not name.strip() or parsed is None:
        message = f"<lora:{tag[:60]}> can't be read; write <lora:name> or <lora:name:0.8>."
        raise InvalidRequest([Fault("prompt", "malformed", message)])
    return {"name": name.strip(), "weight": parsed}


def _style(asked: Mapping[str, Any]) -> str:
    """Raises InvalidRequest for several."""
    styles = asked.get("styles")
    names = [one for one in styles if isinstance(one, str) and one] if isinstance(styles, list) else []
    if len(names) > 1:
        raise InvalidRequest([Fault("styles", "out_of_range", "One style for a request.")])
    return names[0] if names else ""


def _sampler(asked: Mapping[str, Any]) -> str:
    """Raises InvalidRequest for a sampler, or a schedule for it, that is not here."""
    field = "sampler_name" if asked.get("sampler_name") else "sampler_index"
    name, schedule = text(asked, field), text(asked, "scheduler")
    found = samplers.find(name, schedule)
    if found is None:
        asked_for = f"{name} with the schedule {schedule}" if schedule else name
        message = f"There is no sampler {asked_for[:100]}. {samplers.known()}"
        raise InvalidRequest([Fault(field if name else "scheduler", "not_allowed", message)])
    return found


def text(asked: Mapping[str, Any], name: str) -> str:
    value = asked.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequest([Fault(name, "wrong_type", "A text.")])
    return value


def whole(asked: Mapping[str, Any], name: str, default: int) -> int:
    return int(number(asked, name, default))


def flag(asked: Mapping[str, Any], name: str) -> bool:
    """A yes or no, also as number or text."""
    value = asked.get(name)
    if isinstance(value, str):
        return value.strip().lower() in ("true", "1")
    return bool(value)


def number(asked: Mapping[str, Any], name: str, default: float) -> float:
    """A number, also as text. Raises InvalidRequest."""
    value = asked.get(name)
    if value is None or value == "":
        return default
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest([Fault(name, "wrong_type", "A number.")])
    if not abs(value) <= sys.float_info.max:
        raise InvalidRequest([Fault(name, "out_of_range", "A number of some size.")])
    return value


def _parsed(written: str) -> float | None:
    """The number of a text; whole ones exactly, because seeds are larger than floats are exact."""
    written = written.strip()
    if not _DECIMAL.fullmatch(written):
        return None
    return int(written) if written.lstrip("+-").isdigit() else float(written)


def _side(side: int, model: ImageModel | None) -> int:
    low, high = (model.min_side, model.max_side) if model else SIDES
    return min(max(side, low), high) // SIDE_STEP * SIDE_STEP


def answer(task: Task, images: Sequence[Image], asked: Mapping[str, Any], notes: Sequence[str] = ()) -> dict[str, Any]:
    """The finished pictures, and what they were made with: `info` is JSON in a text. `notes`: what of the request was
    not done as it was written.
    """
    shown = {name: value for name, value in asked.items() if name not in ("init_images", "mask", "alwayson_scripts")}
    return {
        "images": [in_base64(image) for image in images],
        "parameters": shown,
        "info": json.dumps(_info(task, images) | {"notes": list(notes)}, ensure_ascii=False),
    }


def answer_each(
    asked: Mapping[str, Any], notes: Sequence[str], made: Sequence[tuple[Task, Sequence[Image]]]
) -> dict[str, Any]:
    """The same of several tasks, one for each picture that was sent."""
    answers = [answer(task, images, asked, notes) for task, images in made]
    infos = [json.loads(one["info"]) for one in answers]
    joint: dict[str, Any] = {name: [entry for info in infos for entry in info[name]] for name in _OF_EACH_PICTURE}
    joint["batch_size"] = len(joint["all_seeds"])
    info = json.dumps(infos[0] | joint, ensure_ascii=False)
    return {**answers[0], "images": [image for one in answers for image in one["images"]], "info": info}


def _info(task: Task, images: Sequence[Image]) -> dict[str, Any]:
    params = task.parameters
    seeds = [image.seed for image in images]
    prompt = file_notes.prompt_of(params)
    return {
        "prompt": prompt,
        "all_prompts": [prompt] * len(seeds),
        "negative_prompt": params.negative_text,
        "all_negative_prompts": [params.negative_text] * len(seeds),
        "seed": params.seed,
        "all_seeds": seeds,
        "width": params.width,
        "height": params.height,
        "sampler_name": file_notes.sampler_of(params),
        "cfg_scale": params.cfg_scale,
        "steps": params.steps,
        "batch_size": len(seeds),
        "denoising_strength": params.strength if KINDS[params.kind].option("strength") else None,
        "sd_model_name": task.model_key.partition("@")[0],
        "infotexts": [parameters_text(file_notes.notes_of(params, task.model_key, image.index)) for image in images],
        "job_timestamp": task.created_at.strftime("%Y%m%d%H%M%S"),
    }
