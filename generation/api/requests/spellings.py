"""Every spelling that a request may use, and the one name inside. A pure value: what reads it is respelling.py.

The first spelling of a line is the name inside, and the only one that the documents show; the others are those of
printed requests of before, and of other tools. Names of fields may stand at the top of a body or in `params`; those of
BLOCK in the `postprocess` block, too.
"""

from collections.abc import Mapping
from typing import Final

_FIELDS: Final = (
    ("text", "prompt"),
    ("texts", "prompts"),
    ("image", "image_url", "init_image"),
    ("mask", "mask_url", "mask_image"),
    ("control_image", "control_image_url"),
    ("images", "image_urls"),
    ("callback_url", "webhook_url"),
    ("negative_text", "negative_prompt"),
    ("steps", "num_inference_steps"),
    ("cfg_scale", "guidance_scale"),
    ("sampler", "sampler_name"),
    ("style", "style_name"),
    ("model", "model_name"),
    ("num_images", "n"),
    ("resolution", "size"),
    ("format", "output_format"),
    ("strength", "denoising_strength"),
    ("area", "inpaint_area"),
    ("mask_feather", "mask_blur"),
    ("control_strength", "control_scale", "control_weight"),
    ("loras", "lora_name"),
    ("postprocess", "post_process", "postprocessing"),
)
_BLOCK: Final = (
    ("upscale", "super_resolution"),
    ("watermark",),
)


def _inside(lines: tuple[tuple[str, ...], ...]) -> Mapping[str, str]:
    return {spelling: line[0] for line in lines for spelling in line}


FIELDS: Final = _inside(_FIELDS)
"""Spelling -> name inside; what is not here is spelt as inside."""
BLOCK: Final = _inside(_BLOCK)
"""The same of the `postprocess` block."""
PICTURES: Final = frozenset(name for name, inside in FIELDS.items() if inside in ("image", "mask", "control_image"))
STRUCTURED: Final = frozenset(
    [name for name, inside in FIELDS.items() if inside in ("postprocess", "loras", "area")] + ["style_keywords", *BLOCK]
) | {"lora_weight"}
"""Fields that are objects or lists: JSON texts in a multipart form."""
LORA_WEIGHT: Final = "lora_weight"  # a number for all of `loras`, or one each
OFF: Final = ("enable", "enabled")  # an object with one of them false is not given
TRANSPARENCY: Final = "transparency"  # of a watermark, in percent: what its `opacity` lacks of 1

STATUSES: Final[Mapping[str, str]] = {
    "pending": "queued",
    "processing": "running",
    "success": "succeeded",
    "completed": "succeeded",
    "error": "failed",
    "cancelled": "canceled",
}
FORMATS: Final[Mapping[str, str]] = {"jpg": "jpeg"}
CONTROL_TYPES: Final[Mapping[str, str]] = {"pose": "openpose"}
SCALES: Final[Mapping[object, int]] = {"2x": 2, "x2": 2, "2": 2, 2: 2, "4x": 4, "x4": 4, "4": 4, 4: 4}
"""Of `upscale`; true is 2."""
WHOLE_AREA: Final = ("whole", "whole picture")
MASKED_AREA: Final = ("masked", "only masked")
