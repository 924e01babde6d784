"""OpenAI's Images API: what its fields mean here, and the form of its answers and errors.

    field                          here
    prompt, model, n, size         text, params.model, params.num_images, params.resolution (`auto`: the model's own)
    model `mini+ink:0.8`           the model with LoRAs and their weights (params.loras), as many as follow with a +
    quality                        steps: low 0.5, medium, standard 1, high, hd 1.5, xhigh, max 2 times the model's own
    output_format, output_compression   format (png when left out) and its quality
    mask (edits)                   transparent is repainted; without a mask: image-to-image
    variations                     image-to-image that changes little, with no more text than `prompt`, if it is sent
    response_format                obeyed; left out: base64 for names that begin with gpt-image, else both forms
    stream, partial_images         streaming.py
    background transparent, formats svg and gif     refused
    negative_prompt, seed, steps | num_inference_steps, cfg_scale | guidance_scale, strength, sampler, style_name, loras
                                   our own, for SDKs that can send more (`extra_body`)

Other fields are accepted and have no effect: style, user, moderation, input_fidelity ...
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.conf import settings

from generation.catalogue.kinds import Kind
from generation.catalogue.models import ImageModel
from generation.catalogue.parameters import SIDE_STEP, parse_resolution
from generation.catalogue.snapshot import Catalogue
from generation.compat.base import in_base64
from generation.tasks.models import Image, Task
from generation.tasks.presentation import image_url, public_format
from imagegenx_site.errors import ApiError, Fault, InvalidRequest, Unauthorised

_STEP_FACTORS: Final = {"low": 0.5, "medium": 1, "standard": 1, "high": 1.5, "hd": 1.5, "xhigh": 2, "max": 2}
_SIZES: Final = ("256x256", "512x512", "1024x1024", "1536x1024", "1024x1536", "1792x1024", "1024x1792")  # OpenAI's
MOST_PARTIAL: Final = 3
_FORMATS: Final = ("png", "webp", "jpeg")
_MOST_TAGS: Final = 20  # LoRAs that are read of a model's name; the request's form has its own bound
_WHOLE: Final = ("seed", "steps", "num_inference_steps", "n", "output_compression")
_NUMBERS: Final = ("cfg_scale", "guidance_scale", "strength", "denoising_strength")
_OWN: Final = {  # fields that OpenAI does not know -> ours
    "negative_prompt": "negative_text",
    "seed": "seed",
    "num_inference_steps": "steps",
    "steps": "steps",
    "guidance_scale": "cfg_scale",
    "cfg_scale": "cfg_scale",
    "sampler": "sampler",
    "style_name": "style",
    "loras": "loras",
}
_PARAMS: Final = {  # our fields -> theirs, for errors
    "text": "prompt",
    "params.resolution": "size",
    "params.num_images": "n",
    "params.model": "model",
    "params.format": "output_format",
    "params.postprocess.quality": "output_compression",
}


def generation_body(asked: Mapping[str, Any], catalogue: Catalogue, kind: Kind) -> dict[str, Any]:
    """Our request body. Raises InvalidRequest for what can't be done here."""
    given = {name: value for name, value in asked.items() if value not in (None, "")}
    given |= {name: _number(given[name], int) for name in _WHOLE if name in given}
    given |= {name: _number(given[name], float) for name in _NUMBERS if name in given}
    faults = _unsupported(given)
    if faults:
        raise InvalidRequest(faults)
    name, loras = with_loras(catalogue, given.get("model"))
    model = model_named(catalogue, name, kind.name)
    params: dict[str, Any] = {_OWN[own]: given[own] for own in _OWN if own in given}
    if loras:
        params["loras"] = [*loras, *_list(params.get("loras"))]
    if model or name:
        params["model"] = model.name if model else name
    if given.get("size", "auto") != "auto":
        params["resolution"] = given["size"]
        if faults := _size_faults(given["size"], model):
            raise InvalidRequest(faults)
    if "n" in given:
        params["num_images"] = given["n"]
    if model and "steps" not in params and given.get("quality") in _STEP_FACTORS:
        params["steps"] = max(1, min(model.max_steps, round(model.default_steps * _STEP_FACTORS[given["quality"]])))
    params["postprocess"] = _output(given)
    if kind.option("strength"):
        strength = given.get("strength", given.get("denoising_strength"))
        params |= {} if strength is None else {"strength": strength}
    return {"text": given.get("prompt", ""), "params": params}


def with_loras(catalogue: Catalogue, name: Any) -> tuple[Any, list[dict[str, Any]]]:
    """The name of the model, and the LoRAs that follow it: `mini+ink:0.8+gold`. Raises InvalidRequest for a weight that
    is no number.
    """
    if not isinstance(name, str) or "+" not in name or catalogue.model(name):
        return name, []
    model, *tags = name.split("+", _MOST_TAGS)
    return model.strip() or None, [_lora(tag) for tag in tags]


def _lora(tag: str) -> dict[str, Any]:
    name, _, weight = tag.partition(":")
    parsed = _number(weight, float) if weight else 1.0
    if not name.strip() or not isinstance(parsed, float):
        message = f"+{tag[:60]} can't be read; write model+lora or model+lora:0.8."
        raise InvalidRequest([Fault("model", "malformed", message)])
    return {"name": name.strip(), "weight": parsed}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def model_named(catalogue: Catalogue, name: Any, kind: str) -> ImageModel | None:
    """The model of that name; the default one for names that OpenAI's own clients are built with."""
    found = catalogue.model(name) if isinstance(name, str) else None
    if found is None and (name is None or name in settings.OPENAI_ALIASES):
        return catalogue.default_model(kind)
    return found


def _number(value: Any, kind: type) -> Any:
    """Multipart forms carry numbers as text; what is no number is refused by its field later."""
    try:
        return kind(value) if isinstance(value, str) else value
    except (ValueError, OverflowError):
        return value


def _unsupported(given: Mapping[str, Any]) -> list[Fault]:
    faults = []
    if given.get("quality", "auto") not in (*_STEP_FACTORS, "auto"):
        known = ", ".join(("auto", *_STEP_FACTORS))
        faults.append(Fault("quality", "unsupported_value", f"One of {known}."))
    if given.get("output_format", "png") not in _FORMATS:
        faults.append(Fault("output_format", "unsupported_value", f"One of {', '.join(_FORMATS)}."))
    if given.get("background") == "transparent":
        faults.append(Fault("background", "unsupported_value", "Pictures have no transparent background here."))
    if not 0 <= partial_images(given) <= MOST_PARTIAL:
        faults.append(Fault("partial_images", "out_of_range", f"A whole number from 0 to {MOST_PARTIAL}."))
    if given.get("response_format", "url") not in ("url", "b64_json"):
        faults.append(Fault("response_format", "unsupported_value", "url or b64_json."))
    return faults


def wants_stream(given: Mapping[str, Any]) -> bool:
    """Forms carry it as text."""
    return str(given.get("stream")).lower() in ("true", "1")


def partial_images(given: Mapping[str, Any]) -> int:
    """How many partial pictures a stream is to bring of each picture; -1 for what is no whole number."""
    asked = _number(given.get("partial_images") or 0, int)
    return asked if isinstance(asked, int) and not isinstance(asked, bool) else -1


def _size_faults(size: Any, model: ImageModel | None) -> list[Fault]:
    """A size that the model can't make, with those that it can; texts that are no size are their field's to refuse."""
    sides = parse_resolution(size) if isinstance(size, str) else None
    if model is None or sides is None or (model.min_side <= min(sides) and max(sides) <= model.max_side):
        return []
    usual = [one for one in _SIZES if all(model.min_side <= int(side) <= model.max_side for side in one.split("x"))]
    message = f"{model.name} makes {model.min_side} to {model.max_side} pixels a side, in steps of {SIDE_STEP}"
    return [Fault("size", "out_of_range", f"{message}: {', '.join((*usual, 'auto'))} and others.")]


def _output(given: Mapping[str, Any]) -> dict[str, Any]:
    form = given.get("output_format", "png")
    quality = given.get("output_compression")
    if form == "png" or quality is None:
        return {"format": form}
    return {"format": form, "quality": quality or 1}  # OpenAI counts from 0


def answer(task: Task, images: Sequence[Image], asked: Mapping[str, Any], base: str) -> dict[str, Any]:
    """The finished pictures as OpenAI's clients read them."""
    form = asked.get("response_format") or ("b64_json" if _takes_base64(asked.get("model")) else "both")
    data = []
    for image in images:
        entry: dict[str, Any] = {}
        if form != "url":
            entry["b64_json"] = in_base64(image)
        if form != "b64_json":
            entry["url"] = image_url(image.key, base)
        data.append(entry)
    first = images[0]
    return {
        "created": int(task.created_at.timestamp()),
        "data": data,
        "output_format": public_format(first.format),
        "size": f"{first.width}x{first.height}",
    }


def _takes_base64(model: Any) -> bool:
    """Clients of these models take base64 only, and do not say so."""
    return isinstance(model, str) and model.startswith(("gpt-image", "chatgpt-image"))


def error_body(error: ApiError) -> dict[str, Any]:
    """OpenAI's form of an error; of several faults the first has the field and the code, the message has all."""
    first: dict[str, Any] = error.details()["errors"][0]
    param = first["field"] and _PARAMS.get(first["field"], first["field"].removeprefix("params."))
    message, code = error.message, first["code"]
    if isinstance(error, InvalidRequest):
        message = " ".join(f"{_PARAMS.get(fault.field, fault.field)}: {fault.message}" for fault in error.faults)
        code = "content_policy_violation" if code.startswith("policy_") else code
    if isinstance(error, Unauthorised):
        message, code = f"Incorrect API key provided. {message}", "invalid_api_key"
    kind = "server_error" if error.http_status >= 500 else "invalid_request_error"
    kind = "rate_limit_error" if error.http_status == 429 else kind
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
