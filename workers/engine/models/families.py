"""Families of diffusers models, by configuration only: which stock pipeline serves which kind of task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """`pipelines`: class name in diffusers by kind of task; none: text2img by the pipeline that the model's own index
    names, in batches of one unless its denoiser has a merge rule. `denoiser`: the component that runs at each step.
    `guidance`: the pipeline's argument for cfg_scale. `any_sampler`: False for flow-matching models, which keep
    their own schedule. `chunked_prompts`: CLIP alone reads the text, so long ones are encoded in chunks; otherwise
    `max_tokens` of `tokenizer` are read, those of its chat template counted if `chat`. `empty_negative`: what stands
    for no negative prompt. `reads_negative`: False where the pipeline takes a negative prompt and makes nothing of it.
    """

    pipelines: Mapping[str, str]
    denoiser: str = "unet"
    guidance: str = "guidance_scale"
    any_sampler: bool = True
    chunked_prompts: bool = False
    max_tokens: int = 512
    tokenizer: str = "tokenizer"
    chat: bool = False
    empty_negative: str | None = None
    reads_negative: bool = True


def _kinds(text: str, image: str, inpaint: str, control: tuple[str, str, str] | None = None) -> dict[str, str]:
    """Pipelines by kind, from the class names' parts before "Pipeline"."""
    names = {"text2img": text, "img2img": image, "inpaint": inpaint}
    if control:
        names |= dict(zip(("controlnet", "controlnet_img2img", "controlnet_inpaint"), control, strict=True))
    return {kind: f"{name}Pipeline" for kind, name in names.items()}


_STABLE_DIFFUSION = Family(
    _kinds(
        "StableDiffusion",
        "StableDiffusionImg2Img",
        "StableDiffusionInpaint",
        ("StableDiffusionControlNet", "StableDiffusionControlNetImg2Img", "StableDiffusionControlNetInpaint"),
    ),
    chunked_prompts=True,
)
_SDXL = Family(
    _kinds(
        "StableDiffusionXL",
        "StableDiffusionXLImg2Img",
        "StableDiffusionXLInpaint",
        ("StableDiffusionXLControlNet", "StableDiffusionXLControlNetImg2Img", "StableDiffusionXLControlNetInpaint"),
    ),
    chunked_prompts=True,
)

FAMILIES: Mapping[str, Family] = {
    "diffusers": Family({}, any_sampler=False),
    "sd15": _STABLE_DIFFUSION,
    "sd21": _STABLE_DIFFUSION,
    "sd-inpaint": Family({"inpaint": _STABLE_DIFFUSION.pipelines["inpaint"]}, chunked_prompts=True),
    "sdxl": _SDXL,
    "sd3": Family(
        _kinds("StableDiffusion3", "StableDiffusion3Img2Img", "StableDiffusion3Inpaint"),
        denoiser="transformer",
        max_tokens=256,
        tokenizer="tokenizer_3",
        any_sampler=False,
    ),
    "flux": Family(
        _kinds("Flux", "FluxImg2Img", "FluxInpaint"),
        denoiser="transformer",
        tokenizer="tokenizer_2",
        any_sampler=False,
        reads_negative=False,
    ),
    "qwen-image": Family(
        _kinds("QwenImage", "QwenImageImg2Img", "QwenImageInpaint"),
        denoiser="transformer",
        guidance="true_cfg_scale",
        empty_negative=" ",
        any_sampler=False,
    ),
    "z-image": Family(
        _kinds("ZImage", "ZImageImg2Img", "ZImageInpaint"),
        denoiser="transformer",
        chat=True,
        any_sampler=False,
    ),
}
