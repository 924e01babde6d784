"""What a file of weights is, by the names and shapes of its tensors.

| it is            | sign                                                                   |
|------------------|------------------------------------------------------------------------|
| a LoRA           | halves of layers (lora_down, lora_A, ...)                              |
| an ESRGAN        | dense blocks (conv_first and body.0.rdb1, or model.1.sub.0.RDB1)       |
| a ControlNet     | its zero convolutions or the layers that read the control picture      |
| a VAE            | encoder.* and decoder.* and nothing else                               |
| a model          | the denoiser of a family, below                                        |
| its denoiser     | the same without text encoders or VAE: they come from another model    |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from workers.engine.checkpoints.files import Header, Unusable

_LORA: Final = re.compile(r"\.(lora_down|lora_up|lora_A|lora_B|lora\.down|lora\.up)\b")
_ESRGAN: Final = ("conv_first.weight", "model.0.weight")
_DENSE: Final = ("body.0.rdb1.conv1.weight", "model.1.sub.0.RDB1.conv1.0.weight", "body.0.weight")
_CONTROL: Final = ("control_model.", "controlnet_cond_embedding.", "controlnet_down_blocks.", "input_hint_block.")
UNET: Final = "model.diffusion_model."
TRANSFORMERS: Final = (UNET, "transformer.", "")
"""What may stand before the names of a transformer's layers."""


class FileKind(StrEnum):
    MODEL = "model"
    LORA = "lora"
    CONTROLNET = "controlnet"
    VAE = "vae"
    ESRGAN = "esrgan"


@dataclass(frozen=True)
class Recognised:
    """`families`: configurations that may fit, the most likely first (names in configurations/; of a LoRA or a
    ControlNet families of the engine). `has`: the parts that the file brings, of "denoiser", "text" and "vae".
    """

    kind: FileKind
    candidates: tuple[str, ...] = ()
    has: frozenset[str] = frozenset()


def recognise(header: Header) -> Recognised:
    """Raises Unusable for what nobody here can read."""
    names = header.shapes
    if any(_LORA.search(name) for name in names):
        return Recognised(FileKind.LORA)
    if any(name in names for name in _ESRGAN) and any(name in names for name in _DENSE):
        return Recognised(FileKind.ESRGAN)
    if next(header.starting(*_CONTROL), None):
        return Recognised(FileKind.CONTROLNET, _control_families(header))
    if _is_vae(header):
        return Recognised(FileKind.VAE)
    if candidates := _candidates(header):
        return Recognised(FileKind.MODEL, candidates, _parts(header))
    raise Unusable(
        f"{header.path.name} is none of the checkpoints that are known here (Stable Diffusion 1.5, 2.1, XL, 3 and 3.5, "
        "FLUX.1, Z-Image, Qwen-Image; LoRA, ControlNet, VAE, ESRGAN). Its first tensor is "
        f"{ascii(next(iter(names), 'none'))[:80]}."
    )


def _parts(header: Header) -> frozenset[str]:
    parts = {"denoiser"}
    if next(header.starting("cond_stage_model.", "conditioner.", "text_encoders."), None):
        parts.add("text")
    if next(header.starting("first_stage_model.", "vae."), None):
        parts.add("vae")
    return frozenset(parts)


def _is_vae(header: Header) -> bool:
    prefixes = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "first_stage_model.", "loss.", "model_ema.")
    inside = sum(1 for _ in header.starting(*prefixes))
    has_both = bool(
        next(header.starting("encoder.", "first_stage_model.encoder."), None)
        and next(header.starting("decoder.", "first_stage_model.decoder."), None)
    )
    return has_both and inside == len(header.shapes)


def _candidates(header: Header) -> tuple[str, ...]:
    """The configurations that its denoiser may have; empty: no denoiser that is known."""
    if f"{UNET}input_blocks.0.0.weight" in header.shapes:
        return _unets(header)
    for prefix in TRANSFORMERS:
        if found := _transformer(header, prefix):
            return found
    return ()


def _unets(header: Header) -> tuple[str, ...]:
    """By the channels that come in, and by the text encoders: SDXL has two, 2.x has OpenCLIP's."""
    inputs = header.shapes[f"{UNET}input_blocks.0.0.weight"][1]
    xl = next(header.starting("conditioner.embedders.1."), None) is not None or f"{UNET}label_emb.0.0.weight" in (
        header.shapes
    )
    if xl:
        return ("sdxl-inpaint",) if inputs == 9 else ("sdxl",)
    open_clip = next(header.starting("cond_stage_model.model."), None) is not None
    linear = len(_shape(header, ".transformer_blocks.0.attn2.to_k.weight")) == 2 and (
        _shape(header, ".transformer_blocks.0.attn2.to_k.weight")[-1] == 1024
    )
    second = open_clip or linear
    if inputs == 9:
        return ("sd21-inpaint",) if second else ("sd15-inpaint",)
    return ("sd21",) if second else ("sd15",)


def _transformer(header: Header, prefix: str) -> tuple[str, ...]:
    shapes = header.shapes
    if f"{prefix}double_blocks.0.img_attn.qkv.weight" in shapes:
        return ("flux-dev",) if f"{prefix}guidance_in.in_layer.weight" in shapes else ("flux-schnell",)
    if f"{prefix}joint_blocks.0.context_block.attn.qkv.weight" in shapes:
        if f"{prefix}joint_blocks.37.x_block.attn.qkv.weight" in shapes:
            return ("sd35-large",)
        medium = next((name for name in shapes if name.startswith(prefix) and ".x_block.attn2." in name), None)
        return ("sd35-medium",) if medium else ("sd3-medium",)
    if f"{prefix}cap_embedder.0.weight" in shapes and f"{prefix}noise_refiner.0.attention.qkv.weight" in shapes:
        return ("z-image",)
    if f"{prefix}transformer_blocks.0.img_mod.1.weight" in shapes and f"{prefix}txt_norm.weight" in shapes:
        return ("qwen-image",)
    return ()


def _control_families(header: Header) -> tuple[str, ...]:
    """By the width of the text that it reads."""
    shape = _shape(header, ".attn2.to_k.weight")
    family = {768: "sd15", 1024: "sd21", 2048: "sdxl"}.get(shape[-1] if shape else 0)
    return (family,) if family else ()


def _shape(header: Header, end: str) -> tuple[int, ...]:
    return next((shape for name, shape in header.shapes.items() if name.endswith(end)), ())
