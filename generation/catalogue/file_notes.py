"""How a picture was made, as its file and AUTOMATIC1111's API say it: one text for both, in A1111's words."""

from typing import Final

from generation.catalogue.kinds import needs_model
from generation.catalogue.parameters import LoraChoice, Parameters
from generation.catalogue.samplers import SAMPLERS
from postprocessing.metadata import Notes

_HASH_DIGITS: Final = 12  # of a LoRA's SHA-256, as many as A1111 shows


def notes_of(asked: Parameters, model_key: str, number: int) -> Notes:
    """Of picture `number` of a task. Of one that was only processed nothing is known but that: it is marked like one
    that a model had a part in, so that no mark is lost by an enlargement.
    """
    if not needs_model(asked.kind):
        return Notes(prompt="", edited=True)
    return Notes(
        prompt=prompt_of(asked),
        negative_prompt=asked.negative_text,
        steps=asked.steps,
        sampler=sampler_of(asked),
        cfg_scale=asked.cfg_scale,
        seed=asked.seed_of(number),
        width=asked.width,
        height=asked.height,
        model=model_key,
        edited=bool(asked.image_key),
        extra=_extra(asked),
    )


def prompt_of(asked: Parameters) -> str:
    """The prompt with its LoRAs as A1111 has them in it: `<lora:name:weight>`."""
    return " ".join([asked.text, *(f"<lora:{_bare(lora)}:{lora.weight:g}>" for lora in asked.loras)])


def sampler_of(asked: Parameters) -> str:
    """A1111's name for the sampler."""
    return SAMPLERS[asked.sampler].a1111 if asked.sampler in SAMPLERS else asked.sampler


def _extra(asked: Parameters) -> dict[str, str]:
    found = {}
    if asked.image_key:
        found["Denoising strength"] = f"{asked.strength:g}"
    if asked.control_key or asked.control_type:
        span = f"Guidance Start: {asked.control_start:g}, Guidance End: {asked.control_end:g}"
        found["ControlNet 0"] = f"Model: {asked.control_type}, Weight: {asked.control_scale:g}, {span}"
    if asked.loras:
        hashes = {_bare(lora): lora.sha256[:_HASH_DIGITS] for lora in asked.loras}
        found["Lora hashes"] = ", ".join(f"{name}: {digits}" for name, digits in hashes.items())
    return found


def _bare(lora: LoraChoice) -> str:
    """The name without its version: the hash says which it was."""
    return lora.name.partition("@")[0]
