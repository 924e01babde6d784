"""The AI Horde's API: what its fields mean here, and the form of its answers.

    field                              here
    prompt (a ### b)                   text, and after ### params.negative_text
    models                             params.model: the first that is here; none named: the default
    params.width, height               params.resolution
    params.n, steps, cfg_scale         params.num_images, steps, cfg_scale
    params.seed (a text)               params.seed; a text that is no number stands for a number, always the same
    params.sampler_name, karras        params.sampler
    params.loras                       params.loras (`model` is the weight)
    params.post_processing             an upscaler of 2 or 4 times: params.postprocess.upscale; others are refused
    params.control_type, image_is_control    a ControlNet request with source_image
    source_image, source_processing    img2img, or inpainting with source_mask (white is painted) or the transparent
                                       part of source_image; outpainting and remix are refused
    params.denoising_strength          params.strength
    r2                                 true: pictures are addresses; false: base64
    webhook, dry_run                   callback_url, dry_run

What would change the picture and can't be had is refused. Workers, kudos and sharing mean nothing here.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID, uuid5

from generation.catalogue import samplers
from generation.catalogue.kinds import Kind, of_pictures
from generation.catalogue.models import ImageModel
from generation.catalogue.parameters import MAX_SEED
from generation.catalogue.snapshot import Catalogue
from generation.compat.base import in_base64
from generation.tasks.estimates import Outlook
from generation.tasks.inputs import GivenMask, MaskRule
from generation.tasks.models import Image, Status, Task
from generation.tasks.presentation import original_url
from imagegenx_site.errors import ApiError, Fault, InvalidRequest

UPSCALERS: Final = {
    "RealESRGAN_x2plus": 2,
    "RealESRGAN_x4plus": 4,
    "RealESRGAN_x4plus_anime_6B": 4,
    "NMKD_Siax": 4,
    "4x_AnimeSharp": 4,
}
_WORKER: Final = UUID("6a1fbd5e-6f0e-4f3a-9c55-9b1d0b0f2f6c")  # the one worker that clients see: this server
_UNAVAILABLE: Final = ("tis", "tiling", "workflow", "transparent", "return_control_map", "extra_texts", "special")
_FIELDS: Final = {"text": "prompt", "params.resolution": "params.width, params.height", "params.num_images": "params.n"}
_FIELDS_OF_PICTURES: Final = {"image": "source_image", "control_image": "source_image", "mask": "source_mask"}
_CODES: Final = {401: "InvalidAPIKey", 403: "Forbidden", 404: "RequestNotFound", 429: "TooManyPrompts"}


def request_of(asked: Mapping[str, Any], catalogue: Catalogue) -> tuple[Kind, dict[str, Any]]:
    """The kind of a request, and its body. Raises InvalidRequest."""
    theirs = _object(asked.get("params"), "params")
    _refuse(asked, theirs)
    source: Any = asked.get("source_image")
    control = bool(source and theirs.get("control_type"))
    masked = bool(source) and not control and asked.get("source_processing") == "inpainting"
    kind = of_pictures(("control",) if control else ("image", "mask") if masked else ("image",) if source else ())
    model = _model(asked.get("models"), catalogue, kind)
    text, _, negative = str(asked.get("prompt") or "").partition("###")
    params = {**_sampling(theirs), "postprocess": {"format": "webp", **_upscale(theirs)}}
    params |= {"model": model.name} if model else {}
    params |= {"negative_text": negative.strip()} if negative.strip() else {}
    body: dict[str, Any] = {"text": text.strip(), "params": params}
    if control:
        params |= {"control_type": theirs["control_type"], "control_ready": bool(theirs.get("image_is_control"))}
        body["control_image"] = source
    elif source:
        params |= {"strength": theirs["denoising_strength"]} if theirs.get("denoising_strength") is not None else {}
        body["image"] = source
    if masked:
        given: Any = asked.get("source_mask")
        body["mask"] = GivenMask(given or source, MaskRule.WHITE if given else MaskRule.TRANSPARENT)
    if asked.get("webhook"):
        body["callback_url"] = asked["webhook"]
    return kind, body


def _refuse(asked: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Raises InvalidRequest for what can't be had here."""
    faults = [Fault(f"params.{name}", "not_available", "This is not possible here.") for name in _UNAVAILABLE
              if theirs.get(name)]  # fmt: skip
    if asked.get("extra_source_images"):
        faults.append(Fault("extra_source_images", "not_available", "The models of this server read one picture."))
    processing = asked.get("source_processing") or "img2img"
    if asked.get("source_image") and processing not in ("img2img", "inpainting", "txt2img"):
        faults.append(Fault("source_processing", "not_available", "img2img or inpainting."))
    if theirs.get("control_type") and not asked.get("source_image"):
        faults.append(Fault("source_image", "required", "A control_type needs a source_image."))
    if faults:
        raise InvalidRequest(faults)


def _sampling(theirs: Mapping[str, Any]) -> dict[str, Any]:
    names = {"steps": "steps", "n": "num_images", "cfg_scale": "cfg_scale"}
    found = {ours: theirs[name] for name, ours in names.items() if theirs.get(name) is not None}
    if theirs.get("width") or theirs.get("height"):
        found["resolution"] = f"{theirs.get('width', 512)}x{theirs.get('height', 512)}"
    if (seed := theirs.get("seed")) not in (None, ""):
        found["seed"] = _seed(seed)
    if name := theirs.get("sampler_name"):
        found["sampler"] = _sampler(str(name), karras=bool(theirs.get("karras")))
    if loras := theirs.get("loras"):
        if not isinstance(loras, list) or not all(isinstance(one, dict) for one in loras):
            raise InvalidRequest([Fault("params.loras", "wrong_type", "A list of {name, model}.")])
        found["loras"] = [{"name": one.get("name"), "weight": one.get("model", 1.0)} for one in loras]
    return found


def _sampler(name: str, *, karras: bool) -> str:
    """Where the sampler has no Karras schedule, `karras` means nothing. Raises InvalidRequest."""
    found = (samplers.find(name, "karras") if karras else None) or samplers.find(name)
    if found is None:
        message = f"There is no sampler {name[:60]}. {samplers.known()}"
        raise InvalidRequest([Fault("params.sampler_name", "not_allowed", message)])
    return found


def _seed(given: Any) -> Any:
    """Numbers as they are; another text stands for a number, always the same."""
    if not isinstance(given, str):
        return given
    if given.isascii() and given.isdigit() and len(given) < 400:
        return int(given) % (MAX_SEED + 1)
    return int.from_bytes(hashlib.sha256(given.encode(errors="replace")).digest()[:4], "big")


def _upscale(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Raises InvalidRequest for post-processors that are not here, and for two."""
    named = theirs.get("post_processing") or []
    if not isinstance(named, list) or any(str(one) not in UPSCALERS for one in named) or len(named) > 1:
        message = f"One of {', '.join(UPSCALERS)}; each stands for this server's own super-resolution."
        raise InvalidRequest([Fault("params.post_processing", "not_available", message)])
    return {"upscale": {"scale": UPSCALERS[str(named[0])], "late": False}} if named else {}


def _model(names: Any, catalogue: Catalogue, kind: Kind) -> ImageModel | None:
    """The first named model that is here; None leaves the choice to the server. Raises InvalidRequest."""
    if not names:
        return None
    asked = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    found = next((model for name in asked if (model := catalogue.model(name))), None)
    if found is None:
        message = f"None of these models is here. Known: {', '.join(catalogue.model_names())}."
        raise InvalidRequest([Fault("models", "unknown_model", message)])
    return found


def _object(value: Any, field: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest([Fault(field, "wrong_type", "An object.")])
    return value


def progress(task: Task, outlook: Outlook) -> dict[str, Any]:
    """What `check` answers; `status` has it, too. All pictures of a request are made together."""
    count = task.parameters.num_images
    running = not task.terminal and task.status != Status.QUEUED
    return {
        "finished": count if task.status == Status.SUCCEEDED else 0,
        "processing": count if running else 0,
        "restarted": max(0, task.attempt - 1),
        "waiting": count if task.status == Status.QUEUED else 0,
        "done": task.terminal,
        "faulted": task.terminal and task.status != Status.SUCCEEDED,
        "wait_time": 0 if task.terminal else round(outlook.seconds or 0),
        "queue_position": (outlook.position or 0) if task.status == Status.QUEUED else 0,
        "kudos": round(task.cost, 2),
        "is_possible": True,
    }


def generations(task: Task, images: Sequence[Image], base: str, *, addresses: bool) -> list[dict[str, Any]]:
    """The finished pictures, as addresses that need no key or in base64."""
    return [
        {
            "img": original_url(image, base) if addresses else in_base64(image),
            "seed": str(image.seed),
            "id": str(uuid5(task.id, str(image.index))),
            "censored": False,
            "model": task.model_key.partition("@")[0],
            "state": "ok",
            "worker_id": str(_WORKER),
            "worker_name": "ImageGenX",
            "gen_metadata": [],
        }
        for image in images
    ]


def error_body(error: ApiError) -> dict[str, Any]:
    """The Horde's form of an error: a sentence, a code, and the fields that are wrong."""
    found: dict[str, Any] = {"message": error.message, "rc": _CODES.get(error.http_status, error.code)}
    if isinstance(error, InvalidRequest):
        names = {fault.field: _FIELDS_OF_PICTURES.get(fault.field, fault.field) for fault in error.faults}
        found["errors"] = {_FIELDS.get(names[fault.field], names[fault.field]): fault.message for fault in error.faults}
        found["message"] = " ".join(f"{field}: {message}" for field, message in found["errors"].items())
        found["rc"] = "ValidationError"
    return found
