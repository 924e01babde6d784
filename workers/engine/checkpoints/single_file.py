"""A single-file checkpoint becomes a folder in diffusers' format.

Nothing is fetched: the configuration is one that ships, or that of a folder. The names of layers are translated by
diffusers' own functions; every tensor of every component must then be there, in the shape that its configuration
asks for, or the checkpoint does not fit. Weights keep their precision; 8-bit floats become bf16.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
import transformers
from diffusers.loaders import single_file_utils as names
from safetensors.torch import load_file, save_file

from workers.engine.checkpoints.configurations import Component, Configuration
from workers.engine.checkpoints.files import Header, Shape, Unusable
from workers.engine.checkpoints.recognition import TRANSFORMERS, UNET

Tensors = dict[str, torch.Tensor]
WEIGHTS: Final = "diffusion_pytorch_model.safetensors"
TEXT_WEIGHTS: Final = "model.safetensors"
_CLIP: Final = (
    "cond_stage_model.transformer.",
    "conditioner.embedders.0.transformer.",
    "text_encoders.clip_l.transformer.",
)
_CLIP_G: Final = "text_encoders.clip_g.transformer."
_OPEN_CLIP: Final = ("cond_stage_model.model.", "conditioner.embedders.1.model.")
_T5: Final = "text_encoders.t5xxl.transformer."
_TYPES: Final = ("F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2")
_EIGHT_BIT: Final = (torch.float8_e4m3fn, torch.float8_e5m2)
_UNTRAINED: Final = ("position_ids", "num_batches_tracked")


class Unfit(Unusable):
    """The checkpoint has not the shape that the configuration describes."""


class Incomplete(Unusable):
    """Components that the file does not bring, and nothing else does."""

    def __init__(self, name: str, missing: list[str]) -> None:
        self.missing = missing
        super().__init__(f"{name} brings no {', '.join(missing)}: they must come from another model.")


def convert(header: Header, configuration: Configuration, folder: Path, parts: Path | None = None) -> None:
    """Write the folder. `parts`: a folder in diffusers' format whose components stand in for those that the file does
    not bring. Raises Unusable, of it Unfit and Incomplete."""
    _check_types(header)
    tensors = load_file(header.path)
    made: dict[str, Tensors] = {}
    missing: list[str] = []
    for name, component in configuration.components.items():
        if component.class_name is None or not _has_weights(component):
            continue
        own = _translated(name, component, tensors)
        if own is None:
            missing.append(name)
        else:
            made[name] = own
    del tensors
    lacking = [name for name in missing if parts is None or not (parts / name).is_dir()]
    if lacking:
        raise Incomplete(header.path.name, lacking)
    _write(configuration, made, folder, parts)


def convert_part(header: Header, component: Component, folder: Path) -> None:
    """Write a folder of one component alone: a VAE or a ControlNet. Raises Unusable."""
    _check_types(header)
    own = _translated("", component, load_file(header.path))
    if own is None:
        raise Unusable(f"{header.path.name} has no {component.class_name}.")
    folder.mkdir(parents=True, exist_ok=True)
    _class_of(component).from_config(component.config).save_config(folder)
    save_file(own, folder / WEIGHTS, metadata={"format": "pt"})


def _check_types(header: Header) -> None:
    if strange := sorted(set(header.dtypes.values()) - {*_TYPES, "I64", "I32", "BOOL"}):
        raise Unusable(
            f"{header.path.name} has weights of the type {', '.join(strange)}: it is quantised in a way that is not "
            "read here. Take the fp16, bf16 or plain fp8 file; the engine makes 8-bit weights itself (precision int8)."
        )
    if next((name for name in header.shapes if name.endswith(("scaled_fp8", ".scale_weight", ".weight_scale"))), None):
        raise Unusable(
            f"{header.path.name} has scaled 8-bit weights, which are not read here. Take the fp16, bf16 or plain fp8 "
            "file."
        )


def _write(configuration: Configuration, made: Mapping[str, Tensors], folder: Path, parts: Path | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, component in configuration.components.items():
        target = folder / name
        if component.class_name is None:
            continue
        if name in made:
            configuration.write_plain(name, target)
            weights = WEIGHTS if component.library == "diffusers" else TEXT_WEIGHTS
            save_file(made[name], target / weights, metadata={"format": "pt"})
        elif parts is not None and (_has_weights(component) or component.config is None):
            shutil.copytree(parts / name, target, copy_function=link_or_copy, dirs_exist_ok=True)
        else:
            configuration.write_plain(name, target)
    (folder / "model_index.json").write_text(json.dumps(configuration.index(), indent=1) + "\n", "utf-8")


def link_or_copy(source: str, target: str) -> str:
    """The same bytes twice cost nothing where the file system can link."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def _has_weights(component: Component) -> bool:
    return component.class_name is not None and issubclass(_class_of(component), torch.nn.Module)


def _class_of(component: Component) -> Any:
    library = diffusers if component.library == "diffusers" else transformers
    try:
        return getattr(library, str(component.class_name))
    except AttributeError:
        raise Unusable(f"This version of {component.library} has no {component.class_name}.") from None


def _translated(name: str, component: Component, tensors: Tensors) -> Tensors | None:
    """The tensors of a component under its own names; None where the file has nothing of it. Raises Unfit."""
    if component.config is None:
        return None
    translate = _TRANSLATORS.get(str(component.class_name))
    if translate is None:
        raise Unusable(f"Single files with a {component.class_name} are not read here.")
    with torch.device("meta"):
        model = _empty(component)
    found = translate(tensors, component, model, name)
    return None if found is None else fitted(found, model, f"{name or 'it'} ({component.class_name})")


def _empty(component: Component) -> torch.nn.Module:
    """The module without its weights."""
    kind = _class_of(component)
    if component.library == "diffusers":
        return kind.from_config(component.config)
    return kind(kind.config_class.from_dict(dict(component.config or {})))


def fitted(found: Tensors, model: torch.nn.Module, title: str) -> Tensors:
    """Of the tensors those that the module has, contiguous. Raises Unfit unless all are there, in their shapes."""
    wanted: dict[str, Shape] = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    needed = [key for key in wanted if not key.endswith(_UNTRAINED) and not _tied(key, model, found)]
    if missing := [key for key in needed if key not in found]:
        raise Unfit(f"{title} lacks {len(missing)} tensors of {len(wanted)}, the first is {missing[0]}.")
    kept = {key: found[key] for key in wanted if key in found}
    for key, tensor in kept.items():
        if tuple(tensor.shape) != wanted[key]:
            raise Unfit(f"{title}: {key} is {list(tensor.shape)}, and the configuration asks for {list(wanted[key])}.")
    return {key: _plain(tensor) for key, tensor in kept.items()}


def _tied(key: str, model: torch.nn.Module, found: Tensors) -> bool:
    """Whether a tensor is another one's under a second name."""
    ties = getattr(model, "_tied_weights_keys", None) or {}
    return key in ties and (not isinstance(ties, dict) or ties[key] in found)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype in _EIGHT_BIT:
        tensor = tensor.to(torch.bfloat16)
    return tensor.contiguous()


# ---- the names of each component

Translator = Callable[[Tensors, Component, torch.nn.Module, str], Tensors | None]


def _unet(tensors: Tensors, component: Component, _model: torch.nn.Module, _name: str) -> Tensors | None:
    own = {key: value for key, value in tensors.items() if key.startswith(UNET)}
    return names.convert_ldm_unet_checkpoint(own, component.config) if own else None


def _vae(tensors: Tensors, component: Component, model: torch.nn.Module, _name: str) -> Tensors | None:
    own = _starting(tensors, ("first_stage_model.", "vae."))
    if not own:
        own = {key: value for key, value in tensors.items() if key.startswith(("encoder.", "decoder.", "quant_conv.",
                                                                              "post_quant_conv."))}  # fmt: skip
    if not own:
        return None
    if any(".down_blocks." in key for key in own):
        return own
    return names.convert_ldm_vae_checkpoint(own, model.config)


def _controlnet(tensors: Tensors, component: Component, model: torch.nn.Module, _name: str) -> Tensors | None:
    return names.convert_controlnet_checkpoint(dict(tensors), model.config)


def _by(function: Callable[..., Tensors]) -> Translator:
    """A transformer by one of diffusers' functions, which takes the names without what stands before them."""

    def translate(tensors: Tensors, _component: Component, model: torch.nn.Module, _name: str) -> Tensors | None:
        if own := _denoiser(tensors, model):
            return own
        stripped = _starting(tensors, TRANSFORMERS[:2]) or _without_others(tensors)
        return function(checkpoint=stripped, config=dict(getattr(model, "config", {}))) if stripped else None

    return translate


def _denoiser(tensors: Tensors, model: torch.nn.Module) -> Tensors | None:
    """Where the names are diffusers' own already."""
    own = set(model.state_dict())
    for prefix in TRANSFORMERS:
        found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if own <= found.keys():
            return found
    return None


def _without_others(tensors: Tensors) -> Tensors:
    others = ("first_stage_model.", "vae.", "text_encoders.", "cond_stage_model.", "conditioner.")
    return {key: value for key, value in tensors.items() if not key.startswith(others)}


def _clip(tensors: Tensors, _component: Component, model: torch.nn.Module, name: str) -> Tensors | None:
    """The first text encoder is CLIP's, or OpenCLIP's of 2.x; the second is OpenCLIP's under either kind of names."""
    first = name == "text_encoder"
    own = _starting(tensors, _CLIP if first else (_CLIP_G,))
    if own and first and "text_projection.weight" in model.state_dict():
        width = model.state_dict()["text_projection.weight"].shape[0]
        own.setdefault("text_projection.weight", torch.eye(width, dtype=next(iter(own.values())).dtype))
    if not own:
        prefix = _OPEN_CLIP[0] if first else _OPEN_CLIP[1]
        if not any(key.startswith(prefix) for key in tensors):
            return None
        own = names.convert_open_clip_checkpoint(model, tensors, prefix=prefix)
    return _flat(own, model)


def _flat(own: Tensors, model: torch.nn.Module) -> Tensors:
    """CLIP's text encoder without projection has lost one level of its names in transformers 5."""
    if hasattr(model, "text_model"):
        return own
    return {key.removeprefix("text_model."): value for key, value in own.items()}


def _t5(tensors: Tensors, _component: Component, _model: torch.nn.Module, _name: str) -> Tensors | None:
    return _starting(tensors, (_T5,)) or None


def _starting(tensors: Tensors, prefixes: tuple[str, ...]) -> Tensors:
    """Those behind the first of the prefixes that occurs, without it."""
    for prefix in prefixes:
        if own := {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}:
            return own
    return {}


def _same(checkpoint: Tensors, **_: Any) -> Tensors:
    return checkpoint


_TRANSLATORS: Final[Mapping[str, Translator]] = {
    "UNet2DConditionModel": _unet,
    "AutoencoderKL": _vae,
    "ControlNetModel": _controlnet,
    "FluxTransformer2DModel": _by(names.convert_flux_transformer_checkpoint_to_diffusers),
    "SD3Transformer2DModel": _by(names.convert_sd3_transformer_checkpoint_to_diffusers),
    "ZImageTransformer2DModel": _by(names.convert_z_image_transformer_checkpoint_to_diffusers),
    "QwenImageTransformer2DModel": _by(_same),
    "CLIPTextModel": _clip,
    "CLIPTextModelWithProjection": _clip,
    "T5EncoderModel": _t5,
}
