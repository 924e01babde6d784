"""The nodes that a graph may have, as ComfyUI declares them: inputs, outputs, and which of them end a graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import QuerySet

from generation.catalogue.models import Lora
from generation.catalogue.parameters import MAX_SEED, SIDE_STEP, SIDES
from generation.catalogue.samplers import SAMPLERS, SCHEDULES
from generation.catalogue.snapshot import Catalogue

_MOST_LORAS: Final = 1000
_CHOICES: Final = ("ckpt_name", "lora_name", "sampler_name", "scheduler", "image", "channel")  # inputs that are lists
_OPTIONAL: Final = ("filename_prefix", "grow_mask_by", "upload")
_NUMBERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "seed": ("INT", {"default": 0, "min": 0, "max": MAX_SEED}),
    "steps": ("INT", {"default": 20, "min": 1, "max": 100}),
    "cfg": ("FLOAT", {"default": 7.0, "min": 1.0, "max": 20.0, "step": 0.1}),
    "denoise": ("FLOAT", {"default": 1.0, "min": 0.05, "max": 1.0, "step": 0.01}),
    "width": ("INT", {"default": 512, "min": SIDES[0], "max": SIDES[1], "step": SIDE_STEP}),
    "height": ("INT", {"default": 512, "min": SIDES[0], "max": SIDES[1], "step": SIDE_STEP}),
    "batch_size": ("INT", {"default": 1, "min": 1, "max": 16}),
    "strength_model": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 2.0, "step": 0.01}),
    "strength_clip": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 2.0, "step": 0.01}),
    "grow_mask_by": ("INT", {"default": 6, "min": 0, "max": 64}),
    "text": ("STRING", {"multiline": True}),
    "filename_prefix": ("STRING", {"default": "ComfyUI"}),
}
_LINKS: Final = {
    "model": "MODEL", "clip": "CLIP", "vae": "VAE", "positive": "CONDITIONING", "negative": "CONDITIONING",
    "latent_image": "LATENT", "samples": "LATENT", "pixels": "IMAGE", "images": "IMAGE", "mask": "MASK",
}  # fmt: skip


@dataclass(frozen=True)
class NodeType:
    """`inputs`: their names, which say their types; `ends`: it is an output of a graph."""

    inputs: Sequence[str]
    outputs: Sequence[str]
    title: str
    ends: bool = False


TYPES: Final[Mapping[str, NodeType]] = {
    "CheckpointLoaderSimple": NodeType(("ckpt_name",), ("MODEL", "CLIP", "VAE"), "Load Checkpoint"),
    "LoraLoader": NodeType(
        ("model", "clip", "lora_name", "strength_model", "strength_clip"), ("MODEL", "CLIP"), "Load LoRA"
    ),
    "LoraLoaderModelOnly": NodeType(("model", "lora_name", "strength_model"), ("MODEL",), "LoraLoaderModelOnly"),
    "CLIPTextEncode": NodeType(("text", "clip"), ("CONDITIONING",), "CLIP Text Encode (Prompt)"),
    "EmptyLatentImage": NodeType(("width", "height", "batch_size"), ("LATENT",), "Empty Latent Image"),
    "LoadImage": NodeType(("image",), ("IMAGE", "MASK"), "Load Image"),
    "LoadImageMask": NodeType(("image", "channel"), ("MASK",), "Load Image (as Mask)"),
    "VAEEncode": NodeType(("pixels", "vae"), ("LATENT",), "VAE Encode"),
    "VAEEncodeForInpaint": NodeType(
        ("pixels", "vae", "mask", "grow_mask_by"), ("LATENT",), "VAE Encode (for Inpainting)"
    ),
    "SetLatentNoiseMask": NodeType(("samples", "mask"), ("LATENT",), "Set Latent Noise Mask"),
    "KSampler": NodeType(
        (
            "model",
            "seed",
            "steps",
            "cfg",
            "sampler_name",
            "scheduler",
            "positive",
            "negative",
            "latent_image",
            "denoise",
        ),
        ("LATENT",),
        "KSampler",
    ),
    "VAEDecode": NodeType(("samples", "vae"), ("IMAGE",), "VAE Decode"),
    "SaveImage": NodeType(("images", "filename_prefix"), (), "Save Image", ends=True),
    "PreviewImage": NodeType(("images",), (), "Preview Image", ends=True),
}


def object_info(
    known: Catalogue, visible: QuerySet[Lora], uploaded: Sequence[str], name: str | None = None
) -> dict[str, Any]:
    """What each node takes and gives, for programs that draw forms of it; one node, when it is named."""
    rows = visible.filter(state=Lora.State.ACTIVE).order_by("name", "-version")[:_MOST_LORAS]
    choices = {
        "ckpt_name": known.model_names(),
        "lora_name": [str(row) for row in rows],
        "sampler_name": list(SAMPLERS),
        "scheduler": list(SCHEDULES),
        "image": list(uploaded),
        "channel": ["alpha", "red"],
    }
    return {kind: _described(kind, node, choices) for kind, node in TYPES.items() if name in (None, kind)}


def _described(kind: str, node: NodeType, choices: Mapping[str, list[str]]) -> dict[str, Any]:
    required = {name: _type(name, choices) for name in node.inputs if name not in _OPTIONAL}
    optional = {name: _type(name, choices) for name in node.inputs if name in _OPTIONAL}
    return {
        "input": {"required": required, "optional": optional},
        "input_order": {"required": list(required), "optional": list(optional)},
        "output": list(node.outputs),
        "output_is_list": [False] * len(node.outputs),
        "output_name": list(node.outputs),
        "name": kind,
        "display_name": node.title,
        "description": "",
        "python_module": "nodes",
        "category": "imagegenx",
        "output_node": node.ends,
    }


def _type(name: str, choices: Mapping[str, list[str]]) -> list[Any]:
    if name in _CHOICES:
        return [choices[name], {"image_upload": True} if name == "image" else {}]
    if name in _NUMBERS:
        return list(_NUMBERS[name])
    return [_LINKS[name]]
