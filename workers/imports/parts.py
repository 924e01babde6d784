"""LoRAs, ControlNets, VAEs and networks for enlargement: each goes where models find it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from django.conf import settings

from generation.catalogue import loras
from generation.catalogue.models import Lora
from generation.catalogue.presets import registry
from imagegenx_site.errors import InvalidRequest
from storage.store import lora_files
from workers.engine.checkpoints.files import Header, Unusable, read_header

CONTROL_WORDS: Final = {"canny": "canny", "depth": "depth", "openpose": "openpose", "pose": "openpose", "tile": "tile"}
_CHUNK: Final = 1 << 20
_WIDTHS: Final = {768: "sd15", 1024: "sd21", 2048: "sdxl"}
_NOTED: Final = {
    "sdxl": "sdxl", "stable-diffusion-xl": "sdxl", "sd_v1": "sd15", "stable-diffusion-v1": "sd15", "sd_v2": "sd21",
    "stable-diffusion-v2": "sd21", "flux": "flux", "sd3": "sd3", "stable-diffusion-3": "sd3", "qwen": "qwen-image",
}  # fmt: skip


def lora_family(header: Header) -> str:
    """The family for which a LoRA was made: by what its training program noted, or by the text it reads; "" unknown."""
    noted = (header.notes.get("ss_base_model_version") or header.notes.get("modelspec.architecture") or "").lower()
    for start, family in _NOTED.items():
        if noted.startswith(start):
            return family
    for name, shape in header.shapes.items():
        if "attn2" in name and ("to_k" in name) and ("down" in name or "lora_A" in name):
            return _WIDTHS.get(shape[1], "")
    if any("double_blocks" in name or "single_transformer_blocks" in name for name in header.shapes):
        return "flux"
    return ""


def import_lora(path: Path, name: str, family: str) -> Lora:
    """Everybody's LoRA, checked as an upload is. Raises Unusable."""
    header = read_header(path)
    base = family or lora_family(header)
    if not base:
        raise Unusable(
            f"{path.name} does not say for which models it was made: add --family sd15 (or sd21, sdxl, flux ...)."
        )

    def chunks() -> Iterator[bytes]:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    try:
        return loras.receive(
            name, chunks(), owner=None, family=base, files=lora_files(), max_bytes=max(settings.MAX_LORA_BYTES, 4 << 30)
        )
    except InvalidRequest as error:
        raise Unusable(f"{path.name}: " + " ".join(fault.message for fault in error.faults)) from error


def control_type(name: str, asked: str) -> str:
    """What kind of picture a ControlNet reads: as asked, or by its name. Raises Unusable."""
    found = asked or next((kind for word, kind in CONTROL_WORDS.items() if word in name.lower()), "")
    if found not in CONTROL_WORDS.values():
        known = ", ".join(dict.fromkeys(CONTROL_WORDS.values()))
        raise Unusable(f"Which kind of control picture does {name} read? Add --control-type, one of {known}.")
    return found


def attach(option: str, key: str, folder: Path, models: Sequence[str], family: str) -> str:
    """Give it to models, and say so. Raises Unusable."""
    try:
        rows = registry.models_for(models, family)
    except LookupError as error:
        raise Unusable(str(error)) from error
    names = registry.attach(option, key, folder, rows) if rows else []
    if not names:
        return f"{folder.name} lies in {folder}; no model is there yet that it fits. Import one, then this again."
    return f"{folder.name} is the {key or option} of {', '.join(names)}."
