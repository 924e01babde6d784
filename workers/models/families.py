"""Families of diffusers models, by configuration only: which stock pipeline serves which kind of task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """`pipelines`: class name in diffusers by kind of task. `denoiser`: the component that runs at each step.
    `guidance`: the pipeline's argument for cfg_scale. `any_sampler`: False for flow-matching models, which keep
    their own schedule. `chunked_prompts`: whether prompts over 77 tokens are encoded in chunks.
    """

    pipelines: Mapping[str, str]
    denoiser: str = "unet"
    guidance: str = "guidance_scale"
    negative_prompts: bool = True
    any_sampler: bool = True
    chunked_prompts: bool = False


_STABLE_DIFFUSION = Family(
    pipelines={
        "text2img": "StableDiffusionPipeline",
        "img2img": "StableDiffusionImg2ImgPipeline",
        "inpaint": "StableDiffusionInpaintPipeline",
        "controlnet": "StableDiffusionControlNetPipeline",
        "controlnet_img2img": "StableDiffusionControlNetImg2ImgPipeline",
        "controlnet_inpaint": "StableDiffusionControlNetInpaintPipeline",
    },
)

FAMILIES: Mapping[str, Family] = {
    "sd15": _STABLE_DIFFUSION,
    "sd21": _STABLE_DIFFUSION,
}
