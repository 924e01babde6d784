"""Folders in diffusers' format: what they hold, and which family of the engine runs it."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from generation.catalogue.kinds import BY_FAMILY, CONTROLNET, INPAINT
from workers.engine.checkpoints.files import Unusable
from workers.engine.checkpoints.single_file import link_or_copy

_BY_PIPELINE: Final = {
    "StableDiffusionXL": "sdxl", "StableDiffusion3": "sd3", "StableDiffusion": "sd15", "Flux": "flux",
    "ZImage": "z-image", "QwenImage": "qwen-image",
}  # fmt: skip
_NOT_RUN: Final = ("QwenImageEdit", "FluxFill", "FluxControl", "FluxKontext", "StableDiffusionXLInstruct")
_READS_TEXT: Final = {768: "sd15", 1024: "sd21", 2048: "sdxl"}


def read_json(path: Path) -> dict[str, Any]:
    """Raises Unusable."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Unusable(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise Unusable(f"{path} is no configuration.")
    return content


def family_of(folder: Path) -> str:
    """The family of the engine; "diffusers" where a pipeline is run as its own index says. Raises Unusable."""
    pipeline = str(read_json(folder / "model_index.json").get("_class_name", ""))
    if pipeline.startswith(_NOT_RUN):
        raise Unusable(f"{folder.name} is a {pipeline}, which the engine cannot run yet.")
    family = next((family for start, family in _BY_PIPELINE.items() if pipeline.startswith(start)), "diffusers")
    if family in ("sd15", "sdxl"):
        unet = read_json(folder / "unet" / "config.json")
        if family == "sd15" and unet.get("in_channels") == 9:
            return "sd-inpaint"
        if family == "sd15" and unet.get("cross_attention_dim") == 1024:
            return "sd21"
    return family


def kinds_of(folder: Path, family: str) -> list[str]:
    """What a model can do by its weights."""
    if family == "diffusers":
        return list(BY_FAMILY[family])
    unet = folder / "unet" / "config.json"
    if unet.is_file() and read_json(unet).get("in_channels") == 9:
        return [INPAINT]
    return [kind for kind in BY_FAMILY[family] if kind != CONTROLNET]  # until one is attached


def part_of(folder: Path) -> tuple[str, Mapping[str, Any]]:
    """The class of a single component, and its configuration; "" if the folder is none. Raises Unusable."""
    if not (folder / "config.json").is_file():
        return "", {}
    config = read_json(folder / "config.json")
    return str(config.get("_class_name", "")), config


def control_family(config: Mapping[str, Any]) -> str:
    """The family for which a ControlNet was made, "" if unknown."""
    width = config.get("cross_attention_dim")
    return _READS_TEXT.get(width, "") if isinstance(width, int) else ""


def bring(source: Path, target: Path) -> None:
    """Into its place in one step; the same bytes twice cost nothing where the file system can link."""
    if source.resolve() == target.resolve():
        return
    staging = target.with_name(f".{target.name}.importing")
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(source, staging, copy_function=link_or_copy, ignore=shutil.ignore_patterns(".cache", ".git"))
    settle(staging, target)


def settle(staging: Path, target: Path) -> None:
    """A finished folder takes its place; what was there goes."""
    retired = target.with_name(f".{target.name}.old")
    shutil.rmtree(retired, ignore_errors=True)
    if target.exists():
        target.rename(retired)
    staging.rename(target)
    shutil.rmtree(retired, ignore_errors=True)
