"""The reference: a stock pipeline, loaded and called for one request as a user of diffusers would, without the engine.

The tables below are written out a second time on purpose, apart from those of workers.engine.models.
"""

import diffusers
import torch
from PIL import Image

from workers.engine.tests.driving import as_array

SAMPLERS = {
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {}),
    "dpm++_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpm++_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm++_sde_karras": (
        "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True}
    ),
    "ddim": ("DDIMScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
}  # fmt: skip
SUFFIX = {
    "text2img": "", "img2img": "Img2Img", "inpaint": "Inpaint", "controlnet": "ControlNet",
    "controlnet_img2img": "ControlNetImg2Img", "controlnet_inpaint": "ControlNetInpaint",
}  # fmt: skip


class Stock:
    """Runs requests one at a time on the model in `folder`."""

    def __init__(self, folder, dtype=torch.float32, name="StableDiffusion", guidance="guidance_scale"):
        self.name = name
        self.guidance = guidance
        self.loaded = diffusers.DiffusionPipeline.from_pretrained(folder, dtype=dtype, local_files_only=True)
        self.controlnet = None
        if (folder / "controlnet-canny").exists():
            self.controlnet = diffusers.ControlNetModel.from_pretrained(folder / "controlnet-canny", dtype=dtype)

    def __call__(self, request):
        pipeline = self.pipeline(request)
        pipeline.set_progress_bar_config(disable=True)
        asked = request.parameters
        call = {
            "prompt": asked.text, "negative_prompt": asked.negative_text or None,
            self.guidance: asked.cfg_scale, "num_inference_steps": asked.steps,
            "generator": torch.Generator().manual_seed(request.seed), "output_type": "pt", **self.pictures(request),
        }  # fmt: skip
        if request.kind not in ("img2img",) or self.name not in ("StableDiffusion", "StableDiffusionXL"):
            call |= {"height": request.height, "width": request.width}
        with torch.no_grad():
            picture = as_array(pipeline(**call).images)
        return self.over_input(picture, request) if request.kind.endswith("inpaint") else picture

    def over_input(self, picture, request):
        """The product keeps what the mask does not cover, which stock pipelines do not."""
        weight = request.mask[:, :, None] / 255
        return picture * weight + request.image / 255 * (1 - weight)

    def pipeline(self, request):
        parts, sampler = dict(self.loaded.components), request.parameters.sampler
        if sampler != "auto":
            scheduler, changes = SAMPLERS[sampler]
            own = self.loaded.scheduler.config
            if sampler == "lcm" and request.steps > 50:  # stock LCM refuses more unless told so
                changes = {"original_inference_steps": request.steps}
            parts["scheduler"] = getattr(diffusers, scheduler).from_config(own, **changes)
        else:
            parts["scheduler"] = type(self.loaded.scheduler).from_config(self.loaded.scheduler.config)
        if request.kind.startswith("controlnet"):
            parts["controlnet"] = self.controlnet
        if self.name == "StableDiffusion":
            parts |= {"requires_safety_checker": False}
        return getattr(diffusers, f"{self.name}{SUFFIX[request.kind]}Pipeline")(**parts)

    def pictures(self, request):
        def picture(array):
            return Image.fromarray(array)

        kind, asked = request.kind, request.parameters
        if kind == "text2img":
            return {}
        control = {
            "controlnet_conditioning_scale": asked.control_scale, "control_guidance_start": asked.control_start,
            "control_guidance_end": asked.control_end,
        }  # fmt: skip
        if kind == "controlnet":
            return {"image": picture(request.control_image), **control}
        call = {"image": picture(request.image), "strength": asked.strength}
        if kind.endswith("inpaint"):
            call["mask_image"] = picture(request.mask)
        if kind.startswith("controlnet"):
            call |= {"control_image": picture(request.control_image), **control}
        return call
