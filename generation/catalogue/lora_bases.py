"""Whether the layers of a LoRA are those of the base models that it is said to be made for.

Three sources, the best that there is:

1. the weights of the family's models that this process can read: a layer must exist in one of them, with that shape
2. where there are none, the width of the text that the family's models read, in its cross-attention
3. what the training program noted in the file
"""

import json
import re
import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from generation.catalogue.model_files import located
from generation.catalogue.models import ImageModel

Shape = tuple[int, ...]
Halves = Mapping[str, tuple[Shape, Shape]]
"""By layer: shape of the lower half [rank, in, ...] and of the upper one [out, rank, ...]."""

COMPONENTS: Final = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
_KOHYA: Final = {
    "lora_unet": ("unet", "transformer"), "lora_transformer": ("transformer",), "lora_te1": ("text_encoder",),
    "lora_te2": ("text_encoder_2",), "lora_te3": ("text_encoder_3",), "lora_te": ("text_encoder",),
}  # fmt: skip
_TEXT_LAYERS: Final = {
    "to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out_0": "out_proj", "to_out": "out_proj",
}  # fmt: skip
_ORIGINAL: Final = re.compile(r"unet_(input_blocks|middle_block|output_blocks|time_embed|label_emb|out)_")
"""Names of the first releases, which training programs keep; their layers have other names in the models here."""
_READS_TEXT: Final = re.compile(r"attn2[_.]to_[kv]$")
UNETS: Final = ("sd15", "sd21", "sdxl", "sd-inpaint")  # every name of their layers is known; others have many spellings
TEXT_WIDTHS: Final = {"sd15": 768, "sd21": 1024, "sdxl": 2048}
_NOTED: Final = {
    "stable-diffusion-v1": "sd15", "stable-diffusion-v2": "sd21", "stable-diffusion-xl": "sdxl",
    "stable-diffusion-3": "sd3", "flux": "flux", "qwen-image": "qwen-image", "sd_v1": "sd15", "sd_v2": "sd21",
    "sd_1": "sd15", "sd_2": "sd21", "sdxl": "sdxl", "sd3": "sd3",
}  # fmt: skip


def mismatch(halves: Halves, metadata: Mapping[str, str], family: str) -> str:
    """Why the LoRA is not one for that family; empty if it may be."""
    noted = _noted_family(metadata)
    if noted and family in _NOTED.values() and noted != family:
        return f"The file says that it was made for {noted}, not {family}."
    models = list(_readable_models(family))
    if not models:
        return _unlike_family(halves, family)
    faults = [_unlike_model(halves, layers, family in UNETS) for layers in models]
    return "" if "" in faults else f"{faults[0]} It was made for another base than {family}."


def _noted_family(metadata: Mapping[str, str]) -> str:
    noted = metadata.get("ss_base_model_version") or metadata.get("modelspec.architecture") or ""
    return next((family for start, family in _NOTED.items() if str(noted).lower().startswith(start)), "")


def _unlike_family(halves: Halves, family: str) -> str:
    wanted = TEXT_WIDTHS.get(family)
    for name, (down, _) in halves.items():
        if wanted and _READS_TEXT.search(name) and down[1] != wanted:
            return f"The layer {name[:120]} reads text of width {down[1]}; models of {family} have {wanted}."
    return ""


def _unlike_model(halves: Halves, layers: Mapping[str, Shape], strict: bool) -> str:
    """Why it does not fit the layers of one model; empty if it does. `strict`: a layer must be known."""
    text_widths = {shape[1] for name, shape in layers.items() if _READS_TEXT.search(name)}
    for name, (down, up) in halves.items():
        if _ORIGINAL.search(name.replace(".", "_")):
            if _READS_TEXT.search(name) and text_widths and down[1] not in text_widths:
                return f"The layer {name[:120]} reads text of width {down[1]}, which the model's do not."
            continue
        shape = next((layers[known] for known in _names(name) if known in layers), None)
        if shape is None and not strict:
            continue
        if shape is None:
            return f"The model has no layer {name[:120]}."
        if (up[0], *down[1:]) != shape:
            made = [up[0], *down[1:]]
            return f"The layer {name[:120]} is {list(shape)} in the model, and the file's halves make {made} of it."
    return ""


def _names(layer: str) -> Iterator[str]:
    """Under which names the layer may stand in a model's list, which has "_" for every ".": "unet_mid_block_..."."""
    name = layer.replace(".", "_")
    candidates = [name]
    for prefix, components in _KOHYA.items():
        if name.startswith(f"{prefix}_"):
            candidates = [f"{component}{name.removeprefix(prefix)}" for component in components]
            break
    for candidate in candidates:
        yield candidate
        yield f"{candidate}_0"  # to_out is a list of which the first is the layer
        if candidate.startswith("text_encoder"):
            for theirs, ours in _TEXT_LAYERS.items():
                if candidate.endswith(f"self_attn_{theirs}"):
                    yield candidate.removesuffix(theirs) + ours


# ---- the models


def _readable_models(family: str) -> Iterator[Mapping[str, Shape]]:
    """The layers of each model of the family whose weights lie here."""
    for source in ImageModel.objects.filter(family=family).values_list("source", flat=True).distinct():
        folder = located(source)
        if "://" not in source and folder.is_dir() and (layers := _layers_of(folder)):
            yield layers


def _layers_of(folder: Path) -> Mapping[str, Shape]:
    layers: dict[str, Shape] = {}
    for component in COMPONENTS:
        for path in sorted((folder / component).glob("*.safetensors")):
            layers |= _layers_in(component, path, path.stat().st_mtime_ns)
    return layers


@lru_cache(64)
def _layers_in(component: str, path: Path, _changed: int) -> Mapping[str, Shape]:
    """Linear layers and convolutions by the header of a weights' file; empty for a file that can't be read."""
    try:
        with path.open("rb") as file:
            entries = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    except (OSError, ValueError, struct.error, MemoryError):
        return {}
    found = {}
    for name, entry in entries.items():
        if name.endswith(".weight") and len(entry["shape"]) in (2, 4):
            layer = f"{component}.{name.removesuffix('.weight')}".replace(".", "_")
            found[layer] = tuple(entry["shape"])
            if component.startswith("text_encoder") and "_text_model_" in layer:
                found[layer.replace("_text_model_", "_", 1)] = found[layer]
            elif component.startswith("text_encoder"):
                found[layer.replace(component, f"{component}_text_model", 1)] = found[layer]
    return found
