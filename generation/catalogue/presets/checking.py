"""Whether what lies in a model's folder is what it should be, without loading it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from generation.catalogue.model_files import located
from generation.catalogue.models import ImageModel
from generation.catalogue.presets import hub
from generation.catalogue.presets.hub import PullError

MANIFEST: Final = "imagegenx.json"
_PLAIN: Final = ("scheduler", "tokenizer", "feature_extractor", "processor", "image_processor")
_PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def check_folder(folder: Path) -> None:
    """Every component that model_index.json names has its configuration and its weights. Raises PullError."""
    try:
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PullError(f"{folder.name} has no readable model_index.json: it is no folder of diffusers.") from error
    for name, entry in index.items():
        if isinstance(entry, list) and entry and entry[0] and not name.startswith("_"):
            _check_component(folder / name, name)


def _check_component(folder: Path, name: str) -> None:
    files = [path for path in folder.glob("*") if path.is_file()] if folder.is_dir() else []
    if not files:
        raise PullError(f"Its component {name} is missing.")
    if name.startswith(_PLAIN) or name in ("safety_checker",):
        return
    weights = [path for path in files if path.suffix == ".safetensors"]
    if not weights and any(path.suffix in _PICKLES for path in files):
        raise PullError(
            f"Its component {name} is a pickle, which can run code of its maker: only .safetensors is taken. Convert "
            'the model where you trust it: python -c "import diffusers; '
            "diffusers.DiffusionPipeline.from_pretrained('FOLDER').save_pretrained('FOLDER-safe')\""
        )
    if not weights:
        raise PullError(f"Its component {name} has no weights (.safetensors).")
    for path in files:
        if path.name.endswith(".index.json"):
            shards = set(json.loads(path.read_text("utf-8")).get("weight_map", {}).values())
            if missing := sorted(shard for shard in shards if not (folder / shard).is_file()):
                raise PullError(f"Its component {name} lacks {missing[0]}.")


def problems(model: ImageModel) -> Iterator[str]:
    """What is wrong with the files of a registered model; nothing if all is well."""
    if "://" in model.source:
        return
    place = located(model.source)
    if not place.exists():
        yield f"{place} is not there."
        return
    if place.is_dir():
        try:
            check_folder(place)
        except PullError as error:
            yield str(error)
    yield from _changed(place)
    for title, path in parts(model):
        if not (place / path).exists():
            yield f"its {title} {path} is not there"


def _changed(place: Path) -> Iterator[str]:
    """Files that differ from what was pulled."""
    manifest = (place if place.is_dir() else place.parent) / MANIFEST
    if not manifest.is_file():
        return
    for name, facts in json.loads(manifest.read_text("utf-8"))["files"].items():
        path = manifest.parent / name
        if not path.is_file():
            yield f"{name} is missing"
        elif path.stat().st_size != facts["bytes"] or hub.digest_of(path) != facts["sha256"]:
            yield f"{name} is not the file that was pulled: pull it again"


def parts(model: ImageModel) -> Iterator[tuple[str, str]]:
    options: dict[str, Any] = model.options
    for option in ("adapter", "vae"):
        if path := options.get(option):
            yield option, path
    for option in ("controlnets", "preprocessors"):
        for key, path in options.get(option, {}).items():
            yield f"{option[:-1]} {key}", path
