"""A path is looked at, and goes where it belongs: below MODELS_DIR, with a row that says how it is loaded."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from django.core.exceptions import ValidationError

from generation.catalogue.model_files import located
from generation.catalogue.models import ImageModel, ModelPreset
from generation.catalogue.presets import checking, registry
from generation.catalogue.presets.hub import PullError
from workers.engine.checkpoints import configurations
from workers.engine.checkpoints.configurations import Component, Configuration
from workers.engine.checkpoints.files import PICKLES, Header, Unusable, read_header
from workers.engine.checkpoints.recognition import FileKind, Recognised, recognise
from workers.engine.checkpoints.single_file import Incomplete, Unfit, convert, convert_part
from workers.imports import folders, parts

_ROW: Final = ("kinds", "min_side", "max_side", "default_width", "default_height", "default_steps", "max_steps",
               "default_cfg_scale", "default_sampler", "options")  # fmt: skip
_PRESETS: Final = {"flux-schnell": "flux-schnell", "sd35-large": "sd35-large", "sdxl-inpaint": "sdxl-inpaint"}
_SD15_CONTROLNET: Final = {
    "_class_name": "ControlNetModel", "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 768, "layers_per_block": 2,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
}  # fmt: skip


@dataclass(frozen=True)
class ImportWishes:
    """`name`: of the model, "": that of the file or folder. `like`: the preset whose defaults it gets. `models`: which
    ones a ControlNet or a VAE is for. `configuration`: a folder in diffusers' format whose shape a single file has.
    `parts`: a model here, or such a folder, that brings what a file lacks. `prediction`: "v_prediction" or "epsilon".
    """

    name: str = ""
    family: str = ""
    like: str = ""
    models: tuple[str, ...] = ()
    control_type: str = ""
    configuration: Path | None = None
    parts: str = ""
    prediction: str = ""
    replace: bool = False
    notes: list[str] = field(default_factory=list)


def import_path(path: Path, wishes: ImportWishes) -> list[str]:
    """Sentences about what can be asked for now. Raises Unusable with what would be right."""
    if not path.exists():
        raise Unusable(f"There is nothing at {path}.")
    try:
        return _folder(path, wishes) if path.is_dir() else [_file(path, wishes)]
    except (PullError, ValidationError) as error:
        text = str(error) if isinstance(error, PullError) else "; ".join(error.messages)
        raise Unusable(f"{path.name}: {text}") from error


def _folder(path: Path, wishes: ImportWishes) -> list[str]:
    if (path / "model_index.json").is_file():
        return [_diffusers(path, wishes)]
    class_name, config = folders.part_of(path)
    if class_name in ("ControlNetModel", "AutoencoderKL"):
        return [_part(path, class_name, config, wishes)]
    if class_name:
        raise Unusable(f"{path.name} is a {class_name}, which the engine cannot run by itself.")
    files = sorted(file for file in path.iterdir() if file.suffix == ".safetensors")
    if not files:
        pickle = next((file for file in sorted(path.iterdir()) if file.suffix.lower() in PICKLES), None)
        if pickle is not None:
            read_header(pickle)  # raises, with the words that convert it
        raise Unusable(f"{path} has neither a model_index.json nor .safetensors files.")
    return [_file(file, wishes, among_others=True) for file in files]


def _diffusers(path: Path, wishes: ImportWishes) -> str:
    checking.check_folder(path)
    family = wishes.family or folders.family_of(path)
    name = _free_name(path, wishes)
    target = registry.folder_of(name)
    folders.bring(path, target)
    return _registered(name, family, folders.kinds_of(target, family), "", wishes)


def _file(path: Path, wishes: ImportWishes, *, among_others: bool = False) -> str:
    if path.suffix.lower() == ".gguf":
        raise Unusable(f"{path.name}: GGUF is not read here. Take the .safetensors file of the same model.")
    header = read_header(path)
    found = recognise(header)
    match found.kind:
        case FileKind.LORA:
            named = registry.slug(path.stem) if among_others else wishes.name or registry.slug(path.stem)
            lora = parts.import_lora(path, named, wishes.family)
            return f'{lora} can be asked for: {{"params": {{"loras": ["{lora.name}"]}}}} (made for {lora.base_family}).'
        case FileKind.ESRGAN:
            return _enlargement(path)
        case FileKind.CONTROLNET:
            return _controlnet_file(header, found, wishes)
        case FileKind.VAE:
            return _vae_file(header, wishes)
    return _checkpoint(header, found, wishes)


def _enlargement(path: Path) -> str:
    from postprocessing.convert import convert as to_onnx

    try:
        done = to_onnx(path, registry.folder_of("superres"))
    except ValueError as error:
        raise Unusable(str(error)) from error
    return f"Enlargement by {done.scale} is made by it from now on ({done.path.name})."


# ---- single files


def _checkpoint(header: Header, found: Recognised, wishes: ImportWishes) -> str:
    name = _free_name(header.path, wishes)
    target = registry.folder_of(name)
    staging = target.with_name(f".{name}.importing")
    try:
        configuration = _converted(header, found, staging, wishes)
        checking.check_folder(staging)
        kinds = folders.kinds_of(staging, configuration.family)
        _set_prediction(staging, header, configuration, wishes)
        folders.settle(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return _registered(name, configuration.family, kinds, _PRESETS.get(configuration.name, ""), wishes)


def _converted(header: Header, found: Recognised, staging: Path, wishes: ImportWishes) -> Configuration:
    """Write the folder by the first configuration that fits. Raises Unusable."""
    candidates = list(_configurations(found, wishes))
    reasons = []
    for configuration in candidates:
        shutil.rmtree(staging, ignore_errors=True)
        try:
            convert(header, configuration, staging, _parts(configuration.family, wishes))
            return configuration
        except Unfit as error:
            reasons.append(f"{configuration.name}: {error}")
        except Incomplete as error:
            raise Unusable(
                f"{error} Name one that is here, or a folder in diffusers' format, with --parts; or get one: "
                f"manage.py models pull {registry.LIKE.get(configuration.family, configuration.family)}"
            ) from error
    raise Unusable(
        f"{header.path.name} looks like {found.candidates[0]}, but has another shape: {reasons[0]} If it is made for a "
        "model of its own form, name a folder with its configuration: --config FOLDER."
    )


def _configurations(found: Recognised, wishes: ImportWishes) -> Any:
    """The one that was named, or those that ship, then those of the models here."""
    family = wishes.family or configurations.shipped(found.candidates[0]).family
    if wishes.configuration is not None:
        yield configurations.of_folder(wishes.configuration, family)
        return
    for candidate in found.candidates:
        yield configurations.shipped(candidate)
    for source in ImageModel.objects.filter(family=family).order_by("position").values_list("source", flat=True):
        folder = located(source)
        if (folder / "model_index.json").is_file():
            yield configurations.of_folder(folder, family)


def _parts(family: str, wishes: ImportWishes) -> Path | None:
    """The folder that brings what the file lacks: the one that was named, or a model of the family that is here."""
    if wishes.parts:
        named = ImageModel.objects.filter(name=wishes.parts).first()
        folder = located(named.source) if named else Path(wishes.parts)
        if not (folder / "model_index.json").is_file():
            raise Unusable(f"--parts {wishes.parts} is neither a model here nor a folder in diffusers' format.")
        return folder
    for source in ImageModel.objects.filter(family=family).exclude(source="mini").values_list("source", flat=True):
        if (located(source) / "model_index.json").is_file():
            return located(source)
    return None


def _set_prediction(folder: Path, header: Header, configuration: Configuration, wishes: ImportWishes) -> None:
    """What the denoiser predicts is not in its shape: as asked, by the notes in the file, else as its family does."""
    noted = {"v": "v_prediction", "epsilon": "epsilon"}.get(header.notes.get("modelspec.prediction_type", ""), "")
    if "v_pred" in header.shapes:
        noted = "v_prediction"
    prediction = wishes.prediction or noted
    if not prediction:
        if configuration.family == "sd21":
            wishes.notes.append(
                "Taken as a 768-pixel model that predicts velocity; if its pictures are noise, import it again with "
                "--prediction epsilon --replace."
            )
        return
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**folders.read_json(path), "prediction_type": prediction}, indent=1) + "\n", "utf-8")


# ---- parts of models


def _part(path: Path, class_name: str, config: Any, wishes: ImportWishes) -> str:
    """A ControlNet or a VAE in diffusers' format."""
    if not any(path.glob("*.safetensors")):
        raise Unusable(f"{path.name} has no .safetensors: only that is taken.")
    name = wishes.name or registry.slug(path.name)
    if class_name == "AutoencoderKL":
        target = registry.folder_of(name)
        folders.bring(path, target)
        return _vae(target, wishes)
    kind = parts.control_type(path.name, wishes.control_type)
    target = registry.folder_of(name)
    folders.bring(path, target)
    return parts.attach("controlnets", kind, target, wishes.models, wishes.family or folders.control_family(config))


def _controlnet_file(header: Header, found: Recognised, wishes: ImportWishes) -> str:
    family = wishes.family or next(iter(found.candidates), "")
    config: dict[str, Any] = dict(_SD15_CONTROLNET)
    if wishes.configuration is not None:
        config = folders.read_json(wishes.configuration / "config.json")
    elif family == "sdxl":
        unet = dict(configurations.shipped("sdxl").components["unet"].config or {})
        dropped = ("up_block_types", "out_channels", "sample_size", "_class_name")
        config = {key: value for key, value in unet.items() if key not in dropped} | {"_class_name": "ControlNetModel"}
    elif family != "sd15":
        raise Unusable("A ControlNet in one file is read for sd15 and sdxl; name its configuration's folder: --config.")
    kind = parts.control_type(header.path.name, wishes.control_type)
    target = registry.folder_of(wishes.name or registry.slug(header.path.stem))
    _convert_part(header, Component("diffusers", "ControlNetModel", config), target)
    return parts.attach("controlnets", kind, target, wishes.models, family)


def _vae_file(header: Header, wishes: ImportWishes) -> str:
    candidates = ["sd15", "flux-dev"] if wishes.configuration is None else []
    if wishes.family == "sdxl" or "xl" in header.path.stem.lower():
        candidates = ["sdxl"]
    target = registry.folder_of(wishes.name or registry.slug(header.path.stem))
    components = [configurations.shipped(name).components["vae"] for name in candidates]
    if wishes.configuration is not None:
        config = folders.read_json(wishes.configuration / "config.json")
        components = [Component("diffusers", "AutoencoderKL", config)]
    for component in components:
        try:
            _convert_part(header, component, target)
            return _vae(target, wishes)
        except Unfit as error:
            reason = error
    raise Unusable(f"{header.path.name} is a VAE of another shape: {reason}")


def _convert_part(header: Header, component: Component, target: Path) -> None:
    staging = target.with_name(f".{target.name}.importing")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        convert_part(header, component, staging)
        folders.settle(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _vae(target: Path, wishes: ImportWishes) -> str:
    if not wishes.models:
        return f"{target.name} lies in {target}. Say for which models it is: add --for NAME (and --replace)."
    return parts.attach("vae", "", target, wishes.models, "")


# ---- rows


def _free_name(path: Path, wishes: ImportWishes) -> str:
    """Raises Unusable for a name that is taken, unless it is to be replaced."""
    name = wishes.name or registry.slug(path.stem if path.is_file() else path.name)
    if ImageModel.objects.filter(name=name, enabled=True).exists() and not wishes.replace:
        raise Unusable(f"There is a model {name} already: choose another --name, or --replace it.")
    if name in ("mini", "mini-turbo"):
        raise Unusable(f"{name} ships with the product: choose another --name.")
    return name


def _registered(name: str, family: str, kinds: list[str], like: str, wishes: ImportWishes) -> str:
    """The row, with the defaults of a preset of its family."""
    preset = ModelPreset.objects.filter(name=wishes.like or like or registry.LIKE.get(family, "")).first()
    if wishes.like and preset is None:
        raise Unusable(f"There is no preset {wishes.like}. `models presets` lists them.")
    row = {key: preset.row[key] for key in _ROW if preset and key in preset.row}
    options = {key: value for key, value in row.get("options", {}).items() if key != "adapter"}
    values = {**row, "title": name, "family": family, "source": name, "kinds": kinds, "options": options}
    model = registry.register(name, values)
    return f'{name} can be asked for: {{"params": {{"model": "{model.name}"}}}} ({family}: {", ".join(kinds)}).'
